"""Writes monitoring/grafana/waypost.json, a dashboard for Grafana 10 and newer: `python scripts/generate_dashboard.py`.

With `--check` nothing is written, and the status is 1 when the file is not what it would be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

TARGET = Path(__file__).parent.parent / "monitoring" / "grafana" / "waypost.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHOLE_WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8}
MINE = 'job="waypost",instance=~"$instance"'


def gauge(name: str, by: str = "", *, how: str = "sum") -> str:
    return f"{how}{_by(by)} ({name}{{{MINE}}})"


def rate(counter: str, by: str = "", where: str = "") -> str:
    """Per second."""
    return f"sum{_by(by)} (rate({counter}{{{MINE}{',' if where else ''}{where}}}[$__rate_interval]))"


def increase(counter: str, by: str = "") -> str:
    """Over what one point of the graph stands for: rare things are counted, not rated."""
    return f"sum{_by(by)} (increase({counter}{{{MINE}}}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def mean(histogram: str) -> str:
    return share(rate(f"{histogram}_sum"), rate(f"{histogram}_count"))


def quantile(q: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', labels)})"


def quantiles(histogram: str) -> dict[str, str]:
    return {f"p{q * 100:g}": quantile(q, histogram) for q in (0.5, 0.95, 0.99)}


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


class Panel(Struct, frozen=True):
    """A graph. `queries` are by legend."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    width: int = 8
    kind: str = "timeseries"


class Number(Panel, frozen=True):
    """One number, now."""

    width: int = 4
    kind: str = "stat"


ATTEMPTS = "waypost_attempts_total"
SUCCEEDED, FAILED = 'status="success"', 'status="failed"'

ROWS = {
    "Overview": (
        Number("Events", "Events accepted.", "ops", {"": rate("waypost_events_published_total")}),
        Number("Deliveries", "Attempts that succeeded.", "ops", {"": rate(ATTEMPTS, where=SUCCEEDED)}),
        Number(
            "Success ratio",
            "Attempts that succeeded, of all.",
            "percentunit",
            {"": share(rate(ATTEMPTS, where=SUCCEEDED), rate(ATTEMPTS))},
        ),
        Number("Backlog", "Deliveries not yet settled.", "short", {"": gauge("waypost_deliveries_waiting")}),
        Number(
            "Oldest due",
            "How long the oldest due delivery waits.",
            "s",
            {"": gauge("waypost_deliveries_oldest_due_age_seconds", how="max")},
        ),
        Number("In flight", "Attempts under way.", "short", {"": gauge("waypost_attempts_in_flight")}),
    ),
    "Publish": (
        Panel(
            "Publishes",
            "What became of them. Unmatched events are accepted ones that no destination wanted.",
            "ops",
            {
                "accepted": rate("waypost_events_published_total"),
                "unmatched": rate("waypost_events_unmatched_total"),
                "duplicate": rate("waypost_events_duplicate_total"),
                "refused": rate("waypost_publishes_refused_total"),
            },
        ),
        Panel("Publish latency", "From request to durable.", "s", quantiles("waypost_publish_seconds")),
        Panel(
            "Routing",
            "Deliveries created, and destinations passed over by reason.",
            "ops",
            {
                "created": rate("waypost_deliveries_created_total"),
                "skipped: {{reason}}": rate("waypost_deliveries_skipped_total", "reason"),
            },
        ),
    ),
    "Delivery by destination type": (
        Panel(
            "Attempts",
            "Attempts recorded.",
            "ops",
            {"{{destination_type}} {{status}}": rate(ATTEMPTS, "destination_type, status")},
        ),
        Panel(
            "Failure ratio",
            "Attempts that failed, of all.",
            "percentunit",
            {
                "{{destination_type}}": share(
                    rate(ATTEMPTS, "destination_type", FAILED), rate(ATTEMPTS, "destination_type")
                )
            },
        ),
        Panel(
            "Attempt latency, p99",
            "How long attempts take, failed ones too.",
            "s",
            {"{{destination_type}}": quantile(0.99, "waypost_attempt_seconds", "destination_type")},
        ),
        Panel(
            "First delivery",
            "From accepted to delivered, where the first attempt succeeds.",
            "s",
            quantiles("waypost_first_delivery_seconds"),
            width=12,
        ),
        Panel(
            "In flight",
            "Attempts under way.",
            "short",
            {"{{instance}}": gauge("waypost_attempts_in_flight", "instance")},
            width=12,
        ),
    ),
    "Retries and what is given up": (
        Panel(
            "Failed attempts",
            "Those that will be retried, and deliveries given up.",
            "ops",
            {
                "retried": rate("waypost_retries_scheduled_total"),
                "given up": rate("waypost_deliveries_exhausted_total"),
            },
        ),
        Panel(
            "Backlog",
            "Deliveries not yet settled, those that wait for a retry too.",
            "short",
            {"{{instance}}": gauge("waypost_deliveries_waiting", "instance")},
        ),
        Panel(
            "Oldest due delivery",
            "How long it waits. One slow destination can be the cause.",
            "s",
            {"{{instance}}": gauge("waypost_deliveries_oldest_due_age_seconds", "instance", how="max")},
        ),
    ),
    "Store": (
        Panel("Commit latency", "How long commits take.", "s", quantiles("waypost_store_commit_seconds")),
        Panel(
            "Commits",
            "Commits, and the pieces of work that they carry together.",
            "ops",
            {
                "commits": rate("waypost_store_commit_size_count"),
                "pieces of work": rate("waypost_store_commit_size_sum"),
            },
            width=6,
        ),
        Panel("Work in a commit", "On average.", "short", {"pieces": mean("waypost_store_commit_size")}, width=5),
        Panel(
            "Failures",
            "Work that the store could not do.",
            "short",
            {"{{instance}}": increase("waypost_store_failures_total", "instance")},
            width=5,
        ),
    ),
    "Destinations and alerts": (
        Panel(
            "Destinations",
            "Failing ones are enabled too.",
            "short",
            {"{{state}}": gauge("waypost_destinations", "state", how="max")},
        ),
        Panel(
            "Disabled automatically",
            "By reason.",
            "short",
            {"{{reason}}": increase("waypost_destinations_auto_disabled_total", "reason")},
        ),
        Panel(
            "Alerts raised",
            "By kind.",
            "short",
            {"{{kind}}": increase("waypost_alerts_raised_total", "kind")},
        ),
        Panel(
            "Alert notices",
            "Tries to send one, by channel type.",
            "short",
            {"{{channel_type}} {{status}}": increase("waypost_alert_notices_total", "channel_type, status")},
            width=12,
        ),
        Panel(
            "Alert notices given up",
            "Nobody has got them there.",
            "short",
            {"{{channel_type}}": increase("waypost_alert_notices_given_up_total", "channel_type")},
            width=12,
        ),
    ),
    "In the background": (
        Panel(
            "Removed",
            "What has outlived its time.",
            "ops",
            {"{{what}}": rate("waypost_retention_removed_total", "what")},
        ),
        Panel(
            "Retention lag",
            "How long the oldest of what is to be removed has been due for that.",
            "s",
            {"{{instance}}": gauge("waypost_retention_lag_seconds", "instance", how="max")},
        ),
        Panel(
            "Indexed for search",
            "Events, beside those that are published.",
            "ops",
            {
                "indexed": rate("waypost_search_events_indexed_total"),
                "published": rate("waypost_events_published_total"),
            },
        ),
        Panel(
            "Replays",
            "Those that have not ended.",
            "short",
            {"{{instance}}": gauge("waypost_replays_running", "instance")},
        ),
        Panel(
            "Live streams",
            "Those that are open.",
            "short",
            {"{{instance}}": gauge("waypost_streams_open", "instance")},
        ),
        Panel(
            "Left out of live streams",
            "Messages for clients that did not keep up.",
            "short",
            {"{{instance}}": increase("waypost_stream_messages_missed_total", "instance")},
        ),
    ),
    "Process": (
        Panel("CPU", "Of one core.", "percentunit", {"{{instance}}": rate("process_cpu_seconds_total", "instance")}),
        Panel(
            "Memory",
            "Resident.",
            "bytes",
            {"{{instance}}": gauge("process_resident_memory_bytes", "instance")},
        ),
        Panel(
            "File descriptors",
            "Open ones, and how many there may be.",
            "short",
            {
                "{{instance}} open": gauge("process_open_fds", "instance"),
                "{{instance}} limit": gauge("process_max_fds", "instance"),
            },
        ),
        Panel(
            "Garbage collections",
            "By generation.",
            "ops",
            {"generation {{generation}}": rate("python_gc_collections_total", "generation")},
        ),
        Panel(
            "Uptime",
            "Since the process started.",
            "s",
            {"{{instance}}": f"time() - {gauge('process_start_time_seconds', 'instance', how='max')}"},
        ),
        Panel(
            "Versions",
            "Processes by version of Waypost and Python.",
            "short",
            {"{{version}} on Python {{python}}": gauge("waypost_build_info", "version, python", how="count")},
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    return {
        "uid": "waypost",
        "title": "Waypost",
        "description": "Events, deliveries and the process behind them.",
        "tags": ["waypost"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source_variable(), _instance_variable()]},
        "panels": [{"id": number} | panel for number, panel in enumerate(_panels(), start=1)],
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Row under row; within a row from left to right, and on a new line where there is no room."""
    y = 0
    for title, panels in ROWS.items():
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, WHOLE_WIDTH, 1)}
        x, y = 0, y + 1
        for panel in panels:
            height = HEIGHTS[panel.kind]
            if x + panel.width > WHOLE_WIDTH:
                x, y = 0, y + height
            yield _rendered(panel) | {"gridPos": _place(x, y, panel.width, height)}
            x += panel.width
        y += height


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _rendered(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto"}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} | _style(panel.kind), "overrides": []},
        "options": _options(panel.kind),
    }


def _style(kind: str) -> dict[str, Any]:
    return {"custom": {"fillOpacity": 10, "showPoints": "never"}} if kind == "timeseries" else {}


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"colorMode": "none", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _instance_variable() -> dict[str, Any]:
    query = 'label_values(waypost_build_info{job="waypost"}, instance)'
    return {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def document() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


def main(arguments: Sequence[str]) -> int:
    wanted = document()
    if "--check" in arguments:
        return 0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == wanted else 1
    TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
