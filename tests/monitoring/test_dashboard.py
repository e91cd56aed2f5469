"""The dashboard is what its source says, and Grafana can lay it out."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain, combinations
from typing import Any

from .files import DASHBOARD, ROOT, panels, queries

SCRIPT = ROOT / "scripts" / "generate_dashboard.py"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def all_panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def test_the_committed_one_is_the_generated_one() -> None:
    checked = subprocess.run([sys.executable, str(SCRIPT), "--check"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run python scripts/generate_dashboard.py"


def test_ids_are_unique_and_panels_do_not_overlap() -> None:
    found = all_panels()
    assert len({panel["id"] for panel in found}) == len(found)
    places = [panel["gridPos"] for panel in found]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def test_every_query_asks_the_chosen_source_for_the_chosen_instances() -> None:
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    for query in chain.from_iterable(map(queries, panels())):
        assert query.count("{") == query.count('{job="waypost",instance=~"$instance"')
