"""What stands in monitoring/, and the names that it uses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "monitoring" / "grafana" / "waypost.json"
PROMETHEUS = ROOT / "monitoring" / "prometheus"
ALERTMANAGER = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"
GUIDE = ROOT / "docs" / "monitoring.md"

RULES = (PROMETHEUS / "waypost.rules.yml").read_text(encoding="utf-8")
ALERTS = re.findall(r"- alert: (\w+)", RULES)
RECORDED = re.findall(r"- record: ([\w:]+)", RULES)


def panels() -> list[dict[str, Any]]:
    """Those of the committed dashboard that show something."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def metric_names(text: str) -> set[str]:
    """Waypost's metrics and the process's, named in expressions; recorded ones have colons."""
    return set(re.findall(r"(?<![\w:])(?:waypost|process|python)_\w+(?=\{)", text))
