"""What is told to the metrics is what Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from waypost import __version__
from waypost.core.alerts import Kind
from waypost.core.retention import Kept
from waypost.observe.metrics import Metrics, NullMetrics, PrometheusMetrics
from waypost.store.retention import Log


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One figure of the exposition."""
    return values(metrics, name, *labels).get(tuple(labels.values()))


def values(metrics: Metrics, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The figures of one name, by these labels."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}


def test_publishes_and_skips() -> None:
    metrics = PrometheusMetrics()
    metrics.published(matched=3, duplicate=False, seconds=0.002)
    metrics.published(matched=0, duplicate=False, seconds=0.002)
    metrics.published(matched=3, duplicate=True, seconds=0.002)
    metrics.refused()
    metrics.skipped("topic")
    metrics.skipped("filter", 4)
    assert value(metrics, "waypost_events_published_total") == 2
    assert value(metrics, "waypost_events_unmatched_total") == 1
    assert value(metrics, "waypost_events_duplicate_total") == 1
    assert value(metrics, "waypost_publishes_refused_total") == 1
    assert value(metrics, "waypost_deliveries_created_total") == 3
    assert values(metrics, "waypost_deliveries_skipped_total", "reason") == {
        ("disabled",): 0,
        ("filter",): 4,
        ("filter_cost",): 0,
        ("not_addressed",): 0,
        ("topic",): 1,
    }


def test_attempts_by_type_begin_with_both_outcomes() -> None:
    metrics = PrometheusMetrics()
    metrics.attempted("kafka", ok=False, retried=True, seconds=0.3)
    metrics.attempted("kafka", ok=False, retried=False, seconds=0.3)
    metrics.attempted("webhook", ok=True, retried=False, seconds=0.02)
    assert values(metrics, "waypost_attempts_total", "destination_type", "status") == {
        ("kafka", "failed"): 2,
        ("kafka", "success"): 0,
        ("webhook", "failed"): 0,
        ("webhook", "success"): 1,
    }
    assert value(metrics, "waypost_retries_scheduled_total") == 1
    assert value(metrics, "waypost_deliveries_exhausted_total") == 1
    assert values(metrics, "waypost_attempt_seconds_count", "destination_type") == {("kafka",): 2, ("webhook",): 1}


def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    metrics = PrometheusMetrics()
    for seconds in (0.0005, 0.001, 0.002, 61.0):
        metrics.committed(5, seconds)
    buckets = values(metrics, "waypost_store_commit_seconds_bucket", "le")
    assert (buckets["0.001",], buckets["0.0025",], buckets["60.0",], buckets["+Inf",]) == (2, 3, 3, 4)
    assert value(metrics, "waypost_store_commit_seconds_sum") == 61.0035
    assert value(metrics, "waypost_store_commit_size_sum") == 20


def test_what_waits_and_what_is_under_way() -> None:
    metrics = PrometheusMetrics()
    metrics.watch_in_flight(lambda: 7)
    metrics.backlog(waiting=5, oldest_age=1.5)
    metrics.destinations(enabled=4, disabled=2, failing=1)
    assert value(metrics, "waypost_attempts_in_flight") == 7
    assert value(metrics, "waypost_deliveries_waiting") == 5
    assert value(metrics, "waypost_deliveries_oldest_due_age_seconds") == 1.5
    assert values(metrics, "waypost_destinations", "state") == {("disabled",): 2, ("enabled",): 4, ("failing",): 1}


def test_alerts_and_what_disables_destinations_start_at_zero() -> None:
    metrics = PrometheusMetrics()
    alerts = values(metrics, "waypost_alerts_raised_total", "kind", "severity")
    assert set(alerts.values()) == {0}
    metrics.alert_raised(Kind.RECOVERED, "info")
    metrics.destination_disabled("gone")
    metrics.store_failed()
    assert values(metrics, "waypost_alerts_raised_total", "kind", "severity") == {**alerts, ("recovered", "info"): 1}
    assert values(metrics, "waypost_destinations_auto_disabled_total", "reason") == {
        ("consecutive_failures",): 0,
        ("failing_too_long",): 0,
        ("gone",): 1,
    }
    assert value(metrics, "waypost_store_failures_total") == 1


def test_notices_by_channel_type() -> None:
    metrics = PrometheusMetrics(channel_types=["email"])
    metrics.notice_sent("slack", ok=False)
    metrics.notice_sent("slack", ok=True)
    metrics.notice_sent("slack", ok=True)
    assert values(metrics, "waypost_alert_notices_total", "channel_type", "status") == {
        ("email", "failed"): 0,
        ("email", "success"): 0,
        ("slack", "failed"): 1,
        ("slack", "success"): 2,
    }
    metrics.notice_given_up("email")
    assert values(metrics, "waypost_alert_notices_given_up_total", "channel_type") == {("email",): 1, ("slack",): 0}


def test_work_in_the_background() -> None:
    metrics = PrometheusMetrics()
    metrics.watch_streams(lambda: 3)
    metrics.stream_missed(12)
    metrics.replays(2)
    metrics.indexed(200)
    metrics.removed("events", 64)
    metrics.removed("events", 6)
    metrics.retention_lag(90.5)
    assert value(metrics, "waypost_streams_open") == 3
    assert value(metrics, "waypost_stream_messages_missed_total") == 12
    assert value(metrics, "waypost_replays_running") == 2
    assert value(metrics, "waypost_search_events_indexed_total") == 200
    assert value(metrics, "waypost_retention_lag_seconds") == 90.5
    removed = {what: count for (what,), count in values(metrics, "waypost_retention_removed_total", "what").items()}
    assert removed == {**dict.fromkeys((*map(str, Kept), *map(str, Log)), 0), "events": 70}


def test_the_process_and_the_build_are_shown() -> None:
    metrics = PrometheusMetrics()
    assert list(values(metrics, "waypost_build_info", "version").items()) == [((__version__,), 1)]
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 1_000_000
    assert (value(metrics, "process_open_fds") or 0) < (value(metrics, "process_max_fds") or 0)


def test_nobody_asking_costs_nothing_and_shows_nothing() -> None:
    metrics: Metrics = NullMetrics()
    metrics.published(matched=1, duplicate=False, seconds=0.1)
    metrics.refused()
    metrics.attempted("webhook", ok=True, retried=False, seconds=0.1)
    metrics.first_delivery(0.1)
    metrics.committed(1, 0.1)
    metrics.watch_in_flight(lambda: 1)
    metrics.backlog(waiting=1, oldest_age=0.1)
    metrics.skipped("topic")
    metrics.store_failed()
    metrics.destinations(enabled=1, disabled=0, failing=0)
    metrics.destination_disabled("gone")
    metrics.alert_raised("recovered", "info")
    metrics.notice_sent("email", ok=True)
    metrics.notice_given_up("email")
    metrics.watch_streams(lambda: 1)
    metrics.stream_missed(1)
    metrics.replays(1)
    metrics.indexed(1)
    metrics.removed("events", 1)
    metrics.retention_lag(0.1)
    assert metrics.exposition() == b""
