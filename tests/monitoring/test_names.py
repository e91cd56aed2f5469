"""Rules, dashboard and guide name the metrics that there are, and every alert has its section in the guide."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

from prometheus_client import Metric

from waypost.observe.metrics import PrometheusMetrics

from .files import ALERTS, GUIDE, PROMETHEUS, RECORDED, RULES, metric_names, panels, queries


def complete() -> PrometheusMetrics:
    """Metrics that show every series they can have."""
    metrics = PrometheusMetrics(channel_types=["slack"])
    metrics.attempted("webhook", ok=True, retried=False, seconds=0.1)
    metrics.watch_disk(lambda: 1)
    metrics.crashed("sweep")
    return metrics


def row(metric: Metric) -> tuple[str, str, str]:
    """Name, type and labels, as the guide's table has them."""
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = dict.fromkeys(label for sample in metric.samples for label in sample.labels if label != "le")
    return name, metric.type, ", ".join(f"`{label}`" for label in labels)


def test_the_guide_lists_every_metric() -> None:
    listed = re.findall(
        r"^\| `(waypost_\w+)` \| (\w+) \| ([^|]*?) ?\|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert Counter(listed) == Counter(row(metric) for metric in complete().collect())


def test_rules_and_dashboard_name_what_there_is() -> None:
    shown = set(re.findall(r"^(\w+)", complete().exposition().decode(), re.MULTILINE))
    asked = metric_names("\n".join(chain([RULES], chain.from_iterable(map(queries, panels())))))
    assert asked
    assert asked <= shown
    assert set(re.findall(r"\w+:\w+:\w+", RULES)) == set(RECORDED)


def test_every_alert_is_tested_and_has_a_runbook() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    tests = (PROMETHEUS / "waypost.rules.test.yml").read_text(encoding="utf-8")
    assert len(set(ALERTS)) == len(ALERTS) > 10
    assert re.findall(r"^### (Waypost\w+)$", guide, re.MULTILINE) == ALERTS
    assert re.findall(r"runbook_url: docs/monitoring\.md#(\w+)", RULES) == [alert.lower() for alert in ALERTS]
    for alert in ALERTS:
        expected = re.findall(rf"alertname: {alert}\n +eval_time: \w+\n +exp_alerts:( \[\])?", tests)
        assert set(expected) == {"", " []"}, f"{alert} must be seen firing and not firing"
