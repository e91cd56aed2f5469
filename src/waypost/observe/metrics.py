"""The numbers of one process, in Prometheus' terms. `NullMetrics` is what stands there when nobody asks for them.

Counting is on the way of every event, so it is plain arithmetic here; prometheus_client renders what was counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics(Protocol):
    """What the flow tells. Durations are in seconds."""

    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None: ...

    def refused(self) -> None: ...

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None: ...

    def first_delivery(self, seconds: float) -> None: ...

    def committed(self, size: int, seconds: float) -> None: ...

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        """Ask this function for the attempts under way whenever the numbers are shown."""
        ...

    def backlog(self, *, waiting: int, oldest_age: float) -> None: ...

    def exposition(self) -> bytes: ...


class NullMetrics:
    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None:
        pass

    def refused(self) -> None:
        pass

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None:
        pass

    def first_delivery(self, seconds: float) -> None:
        pass

    def committed(self, size: int, seconds: float) -> None:
        pass

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        pass

    def backlog(self, *, waiting: int, oldest_age: float) -> None:
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

    def family(self, name: str, help_: str) -> Metric:
        buckets, seen = [], 0
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            seen += count
            buckets.append((str(bound), float(seen)))
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self._sum)


class PrometheusMetrics(Collector):
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._published = self._duplicates = self._unmatched = self._refused = self._routed = 0
        self._attempts: Counter[tuple[str, bool]] = Counter()
        self._retried = self._exhausted = 0
        self._in_flight: Callable[[], float] = lambda: 0
        self._waiting, self._oldest_age = 0, 0.0
        self._publish_seconds = _Histogram(_SECONDS)
        self._attempt_seconds = _Histogram(_SECONDS)
        self._delivery_seconds = _Histogram(_SECONDS)
        self._commit_seconds = _Histogram(_SECONDS)
        self._commit_size = _Histogram(_GROUPS)
        self._registry.register(self)

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

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None:
        self._attempts[kind, ok] += 1
        self._attempt_seconds.observe(seconds)
        if retried:
            self._retried += 1
        elif not ok:
            self._exhausted += 1

    def first_delivery(self, seconds: float) -> None:
        self._delivery_seconds.observe(seconds)

    def committed(self, size: int, seconds: float) -> None:
        self._commit_size.observe(size)
        self._commit_seconds.observe(seconds)

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        self._in_flight = count

    def backlog(self, *, waiting: int, oldest_age: float) -> None:
        self._waiting, self._oldest_age = waiting, oldest_age

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Everything counted so far, as prometheus_client wants it."""
        counted = CounterMetricFamily
        yield counted("waypost_events_published", "Events accepted, duplicates not counted.", self._published)
        yield counted("waypost_events_duplicate", "Publishes of an event already known.", self._duplicates)
        yield counted("waypost_events_unmatched", "Events that no destination wanted.", self._unmatched)
        yield counted("waypost_publishes_refused", "Publishes answered with an error.", self._refused)
        yield counted("waypost_deliveries_created", "Deliveries that published events led to.", self._routed)
        yield self._attempts_by_type()
        yield counted("waypost_retries_scheduled", "Failed attempts that will be retried.", self._retried)
        yield counted("waypost_deliveries_exhausted", "Deliveries given up.", self._exhausted)
        shown = GaugeMetricFamily
        yield shown("waypost_attempts_in_flight", "Attempts under way.", self._in_flight())
        yield shown("waypost_deliveries_waiting", "Deliveries not yet settled.", self._waiting)
        oldest = "How long the oldest due delivery waits."
        yield shown("waypost_deliveries_oldest_due_age_seconds", oldest, self._oldest_age)
        yield self._publish_seconds.family("waypost_publish_seconds", "From request to durable.")
        yield self._attempt_seconds.family("waypost_attempt_seconds", "How long attempts took.")
        first = "From accepted to delivered by the first attempt."
        yield self._delivery_seconds.family("waypost_first_delivery_seconds", first)
        yield self._commit_seconds.family("waypost_store_commit_seconds", "How long store commits took.")
        yield self._commit_size.family("waypost_store_commit_size", "Pieces of work in a store commit.")

    def _attempts_by_type(self) -> Metric:
        labels = ("destination_type", "status")
        family = CounterMetricFamily("waypost_attempts", "Delivery attempts on record.", labels=labels)
        for (kind, ok), count in sorted(self._attempts.items()):
            family.add_metric((kind, "success" if ok else "failed"), count)
        return family
