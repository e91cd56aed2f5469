"""The numbers of one process, in Prometheus' terms. `NullMetrics` is what stands there when nobody asks for them.

Counting is on the way of every event, so it is plain arithmetic here; prometheus_client renders what was counted.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from waypost import __version__
from waypost.core.alerts import SEVERITIES, TOPICS
from waypost.observe.logs import tally

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_STATUS = {True: "success", False: "failed"}
_SKIP_REASONS = ("not_addressed", "disabled", "topic", "filter", "filter_cost")
_PUT_OFF = ("descriptors", "memory", "disk", "store", "resolver", "missing_extra", "configuration", "other")
_FLAGS = ("deprecated", "invalid")
_REMOVED = ("events", "attempts", "data", "alerts", "news", "audit", "replays")
_DISABLE_REASONS = ("consecutive_failures", "failing_too_long", "gone")

Counts = Counter[tuple[str, ...]]
"""By the values of labels."""


class Metrics(Protocol):
    """What the flow tells. Durations are in seconds."""

    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None: ...

    def refused(self) -> None: ...

    def flagged(self, reason: str) -> None:
        """An event was accepted although its topic is `deprecated` or its data `invalid` by the topic's schema."""
        ...

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None: ...

    def put_off(self, reason: str) -> None:
        """An attempt could not be made for want of something of our own: see `waypost.core.errors.Unavailable`."""
        ...

    def first_delivery(self, seconds: float) -> None: ...

    def committed(self, size: int, seconds: float) -> None: ...

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        """Ask this function for the attempts under way whenever the numbers are shown."""
        ...

    def backlog(self, *, waiting: int, oldest_age: float) -> None: ...

    def skipped(self, reason: str, count: int = 1) -> None:
        """So many destinations did not get an event, for the reason of `waypost.core.routing.Skip`."""
        ...

    def store_failed(self) -> None: ...

    def store_log(self, size: int) -> None:
        """So many bytes the store's write-ahead log has."""
        ...

    def watch_disk(self, free: Callable[[], int | None]) -> None:
        """Ask this function for the bytes that the store's disk has left whenever the numbers are shown."""
        ...

    def crashed(self, name: str) -> None:
        """A loop in the background has crashed; it goes on."""
        ...

    def watch_clock(self, ahead: Callable[[], float]) -> None:
        """Ask this function how many seconds the clock is ahead of what is believed."""
        ...

    def destinations(self, *, enabled: int, disabled: int, failing: int) -> None:
        """How many there are. The failing ones are enabled too."""
        ...

    def destination_disabled(self, reason: str) -> None:
        """A destination was disabled automatically, for the reason of `waypost.core.model.Disabling`."""
        ...

    def alert_raised(self, kind: str, severity: str) -> None: ...

    def notice_sent(self, channel_type: str, *, ok: bool) -> None:
        """One try to hand a notice to an alert channel has ended."""
        ...

    def notice_given_up(self, channel_type: str) -> None:
        """A notice will not be tried again; nobody has got it there."""
        ...

    def removed(self, what: str, count: int) -> None:
        """So many of these have outlived their time and are gone: `events`, `attempts`, `data`, or lines of a log."""
        ...

    def retention_lag(self, seconds: float) -> None:
        """How long the oldest of what is to be removed has been due for that; 0 when there is nothing."""
        ...

    def watch_streams(self, count: Callable[[], float]) -> None:
        """Ask this function for the live streams that are open whenever the numbers are shown."""
        ...

    def stream_missed(self, count: int) -> None:
        """A live stream did not keep up: so many messages were left out."""
        ...

    def replays(self, running: int) -> None: ...

    def indexed(self, events: int) -> None:
        """So many events can be searched now."""
        ...

    def exposition(self) -> bytes: ...


class NullMetrics:
    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None:
        pass

    def refused(self) -> None:
        pass

    def flagged(self, reason: str) -> None:
        pass

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None:
        pass

    def put_off(self, reason: str) -> None:
        pass

    def first_delivery(self, seconds: float) -> None:
        pass

    def committed(self, size: int, seconds: float) -> None:
        pass

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        pass

    def backlog(self, *, waiting: int, oldest_age: float) -> None:
        pass

    def skipped(self, reason: str, count: int = 1) -> None:
        pass

    def store_failed(self) -> None:
        pass

    def store_log(self, size: int) -> None:
        pass

    def watch_disk(self, free: Callable[[], int | None]) -> None:
        pass

    def crashed(self, name: str) -> None:
        pass

    def watch_clock(self, ahead: Callable[[], float]) -> None:
        pass

    def destinations(self, *, enabled: int, disabled: int, failing: int) -> None:
        pass

    def destination_disabled(self, reason: str) -> None:
        pass

    def alert_raised(self, kind: str, severity: str) -> None:
        pass

    def notice_sent(self, channel_type: str, *, ok: bool) -> None:
        pass

    def notice_given_up(self, channel_type: str) -> None:
        pass

    def removed(self, what: str, count: int) -> None:
        pass

    def retention_lag(self, seconds: float) -> None:
        pass

    def watch_streams(self, count: Callable[[], float]) -> None:
        pass

    def stream_missed(self, count: int) -> None:
        pass

    def replays(self, running: int) -> None:
        pass

    def indexed(self, events: int) -> None:
        pass

    def exposition(self) -> bytes:
        return b""


class _Histogram:
    """Observations by bucket. Told by one thread at a time."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> HistogramMetricFamily:
        buckets, seen = [], 0
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            seen += count
            buckets.append((str(bound), float(seen)))
        family.add_metric(labels, buckets, self._sum)
        return family


class PrometheusMetrics(Collector):
    """Counts for one process.

    Prometheus does not see the increase that a series begins with. So series begin at 0 where their labels are known
    before: those of alerts, and those of notices by `channel_types`.
    """

    def __init__(self, *, channel_types: Iterable[str] = ()) -> None:
        self._published = self._duplicates = self._unmatched = self._refused = self._routed = 0
        self._attempts: Counts = Counter()
        self._put_off = _zeros(_PUT_OFF)
        self._retried = self._exhausted = self._store_failures = 0
        self._in_flight: Callable[[], float] = lambda: 0
        self._waiting, self._oldest_age = 0, 0.0
        self._destinations: Mapping[tuple[str, ...], int] = {}
        self._skipped = _zeros(_SKIP_REASONS)
        self._flagged = _zeros(_FLAGS)
        self._disabled = _zeros(_DISABLE_REASONS)
        self.destinations(enabled=0, disabled=0, failing=0)
        self._alerts = _zeros(map(str, TOPICS), SEVERITIES)
        self._notices = _zeros(channel_types := tuple(channel_types), _STATUS.values())
        self._given_up = _zeros(channel_types)
        self._removed = _zeros(_REMOVED)
        self._retention_lag = 0.0
        self._store_log = 0
        self._disk_free: Callable[[], int | None] = lambda: None
        self._crashed: Counts = Counter()
        self._clock_ahead: Callable[[], float] = lambda: 0.0
        self._streams: Callable[[], float] = lambda: 0
        self._missed = self._replays = self._indexed = 0
        self._publish_seconds = _Histogram(_SECONDS)
        self._attempt_seconds: defaultdict[str, _Histogram] = defaultdict(lambda: _Histogram(_SECONDS))
        self._delivery_seconds = _Histogram(_SECONDS)
        self._commit_seconds = _Histogram(_SECONDS)
        self._commit_size = _Histogram(_GROUPS)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None:
        self._publish_seconds.observe(seconds)
        if duplicate:
            self._duplicates += 1
            return
        self._published += 1
        self._routed += matched
        if not matched:
            self._unmatched += 1

    def refused(self) -> None:
        self._refused += 1

    def flagged(self, reason: str) -> None:
        self._flagged[reason,] += 1

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None:
        _count_one(self._attempts, kind, ok=ok)
        self._attempt_seconds[kind].observe(seconds)
        if retried:
            self._retried += 1
        elif not ok:
            self._exhausted += 1

    def put_off(self, reason: str) -> None:
        self._put_off[reason,] += 1

    def first_delivery(self, seconds: float) -> None:
        self._delivery_seconds.observe(seconds)

    def committed(self, size: int, seconds: float) -> None:
        self._commit_size.observe(size)
        self._commit_seconds.observe(seconds)

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        self._in_flight = count

    def backlog(self, *, waiting: int, oldest_age: float) -> None:
        self._waiting, self._oldest_age = waiting, oldest_age

    def skipped(self, reason: str, count: int = 1) -> None:
        self._skipped[reason,] += count

    def store_failed(self) -> None:
        self._store_failures += 1

    def store_log(self, size: int) -> None:
        self._store_log = size

    def watch_disk(self, free: Callable[[], int | None]) -> None:
        self._disk_free = free

    def crashed(self, name: str) -> None:
        self._crashed[name,] += 1

    def watch_clock(self, ahead: Callable[[], float]) -> None:
        self._clock_ahead = ahead

    def destinations(self, *, enabled: int, disabled: int, failing: int) -> None:
        self._destinations = {("enabled",): enabled, ("disabled",): disabled, ("failing",): failing}

    def destination_disabled(self, reason: str) -> None:
        self._disabled[reason,] += 1

    def alert_raised(self, kind: str, severity: str) -> None:
        self._alerts[kind, severity] += 1

    def notice_sent(self, channel_type: str, *, ok: bool) -> None:
        _count_one(self._notices, channel_type, ok=ok)
        self._given_up[channel_type,] += 0

    def notice_given_up(self, channel_type: str) -> None:
        self._given_up[channel_type,] += 1

    def removed(self, what: str, count: int) -> None:
        self._removed[what,] += count

    def retention_lag(self, seconds: float) -> None:
        self._retention_lag = seconds

    def watch_streams(self, count: Callable[[], float]) -> None:
        self._streams = count

    def stream_missed(self, count: int) -> None:
        self._missed += count

    def replays(self, running: int) -> None:
        self._replays = running

    def indexed(self, events: int) -> None:
        self._indexed += events

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Everything counted so far, as prometheus_client wants it."""
        counted, shown = CounterMetricFamily, GaugeMetricFamily
        build: Mapping[tuple[str, ...], int] = {(__version__, platform.python_version()): 1}
        yield _by_label(shown, "waypost_build_info", "What runs here; always 1.", ("version", "python"), build)
        yield counted("waypost_events_published", "Events accepted, duplicates not counted.", self._published)
        yield counted("waypost_events_duplicate", "Publishes of an event already known.", self._duplicates)
        yield counted("waypost_events_unmatched", "Events that no destination wanted.", self._unmatched)
        yield counted("waypost_publishes_refused", "Publishes answered with an error.", self._refused)
        doubtful = "Events accepted with a flag."
        yield _by_label(counted, "waypost_events_flagged", doubtful, ("reason",), self._flagged)
        yield counted("waypost_deliveries_created", "Deliveries that published events led to.", self._routed)
        passed_over = "Destinations that did not get an event."
        yield _by_label(counted, "waypost_deliveries_skipped", passed_over, ("reason",), self._skipped)
        by_type = ("destination_type", "status")
        yield _by_label(counted, "waypost_attempts", "Delivery attempts on record.", by_type, self._attempts)
        own = "Attempts put off for want of something of our own."
        yield _by_label(counted, "waypost_attempts_put_off", own, ("reason",), self._put_off)
        yield counted("waypost_retries_scheduled", "Failed attempts that will be retried.", self._retried)
        yield counted("waypost_deliveries_exhausted", "Deliveries given up.", self._exhausted)
        yield shown("waypost_attempts_in_flight", "Attempts under way.", self._in_flight())
        yield shown("waypost_deliveries_waiting", "Deliveries not yet settled.", self._waiting)
        oldest = "How long the oldest due delivery waits."
        yield shown("waypost_deliveries_oldest_due_age_seconds", oldest, self._oldest_age)
        yield counted("waypost_store_failures", "Work that the store could not do.", self._store_failures)
        yield shown("waypost_store_log_bytes", "Size of the store's write-ahead log.", self._store_log)
        free = self._disk_free()
        if free is not None:
            yield shown("waypost_store_disk_free_bytes", "What the store's disk has left.", free)
        yield from self._destinations_and_alerts()
        yield from self._background()
        yield from self._histograms()

    def _destinations_and_alerts(self) -> Iterator[Metric]:
        counted = CounterMetricFamily
        standing = "Destinations there are; failing ones are enabled too."
        yield _by_label(GaugeMetricFamily, "waypost_destinations", standing, ("state",), self._destinations)
        disabled = "Destinations disabled automatically."
        yield _by_label(counted, "waypost_destinations_auto_disabled", disabled, ("reason",), self._disabled)
        yield _by_label(counted, "waypost_alerts_raised", "Alerts raised.", ("kind", "severity"), self._alerts)
        tries, by_channel = "Tries to send an alert notice.", ("channel_type", "status")
        yield _by_label(counted, "waypost_alert_notices", tries, by_channel, self._notices)
        lost = "Alert notices given up."
        yield _by_label(counted, "waypost_alert_notices_given_up", lost, ("channel_type",), self._given_up)

    def _background(self) -> Iterator[Metric]:
        counted, shown = CounterMetricFamily, GaugeMetricFamily
        outlived = "What has outlived its time and was removed."
        yield _by_label(counted, "waypost_retention_removed", outlived, ("what",), self._removed)
        lag = "How long the oldest of what is to be removed has been due for that."
        yield shown("waypost_retention_lag_seconds", lag, self._retention_lag)
        yield shown("waypost_streams_open", "Live streams that are open.", self._streams())
        yield counted("waypost_stream_messages_missed", "Messages left out of slow live streams.", self._missed)
        yield shown("waypost_replays_running", "Replays that have not ended.", self._replays)
        yield counted("waypost_search_events_indexed", "Events taken into the search index.", self._indexed)
        crashes = "Crashes of loops in the background, which go on."
        yield _by_label(counted, "waypost_background_crashes", crashes, ("name",), self._crashed)
        ahead = "How far the clock is ahead of what is believed; nothing is removed by it meanwhile."
        yield shown("waypost_clock_ahead_seconds", ahead, self._clock_ahead())
        yield counted("waypost_log_lines_dropped", "Lines of the log that could not be written.", tally.dropped)

    def _histograms(self) -> Iterator[Metric]:
        timed = HistogramMetricFamily
        yield self._publish_seconds.add_to(timed("waypost_publish_seconds", "From request to durable."))
        attempts = timed("waypost_attempt_seconds", "How long attempts took.", labels=("destination_type",))
        for kind, histogram in sorted(self._attempt_seconds.items()):
            histogram.add_to(attempts, (kind,))
        yield attempts
        first = "From accepted to delivered by the first attempt."
        yield self._delivery_seconds.add_to(timed("waypost_first_delivery_seconds", first))
        yield self._commit_seconds.add_to(timed("waypost_store_commit_seconds", "How long store commits took."))
        yield self._commit_size.add_to(timed("waypost_store_commit_size", "Pieces of work in a store commit."))


def _zeros(*labels: Iterable[str]) -> Counts:
    return Counter(dict.fromkeys(product(*labels), 0))


def _count_one(counts: Counts, kind: str, *, ok: bool) -> None:
    """Both series of a kind begin together, so that a share of failures is a number from the start."""
    counts[kind, _STATUS[ok]] += 1
    counts[kind, _STATUS[not ok]] += 0


def _by_label(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    help_: str,
    labels: Sequence[str],
    counts: Mapping[tuple[str, ...], int],
) -> Metric:
    made = family(name, help_, labels=labels)
    for values, count in sorted(counts.items()):
        made.add_metric(values, count)
    return made
