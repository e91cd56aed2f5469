"""The numbers of one process, in Prometheus' terms. `NullMetrics` is what stands there when nobody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

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


class PrometheusMetrics:
    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own annotation is missing
        registry = self._registry = CollectorRegistry()
        self._published = self._counter("waypost_events_published", "Events accepted, duplicates not counted.")
        self._duplicates = self._counter("waypost_events_duplicate", "Publishes of an event already known.")
        self._unmatched = self._counter("waypost_events_unmatched", "Events that no destination wanted.")
        self._refused = self._counter("waypost_publishes_refused", "Publishes answered with an error.")
        self._routed = self._counter("waypost_deliveries_created", "Deliveries that published events led to.")
        self._attempts = Counter(
            "waypost_attempts", "Delivery attempts on record.", ("destination_type", "status"), registry=registry
        )
        self._retried = self._counter("waypost_retries_scheduled", "Failed attempts that will be retried.")
        self._exhausted = self._counter("waypost_deliveries_exhausted", "Deliveries given up.")
        self._in_flight = Gauge("waypost_attempts_in_flight", "Attempts under way.", registry=registry)
        self._waiting = Gauge("waypost_deliveries_waiting", "Deliveries not yet settled.", registry=registry)
        self._oldest = Gauge(
            "waypost_deliveries_oldest_due_age_seconds", "How long the oldest due delivery waits.", registry=registry
        )
        self._publish_seconds = self._histogram("waypost_publish_seconds", "From request to durable.")
        self._attempt_seconds = self._histogram("waypost_attempt_seconds", "How long attempts took.")
        self._delivery_seconds = self._histogram(
            "waypost_first_delivery_seconds", "From accepted to delivered by the first attempt."
        )
        self._commit_seconds = self._histogram("waypost_store_commit_seconds", "How long store commits took.")
        self._commit_size = Histogram(
            "waypost_store_commit_size", "Pieces of work in a store commit.", buckets=_GROUPS, registry=registry
        )

    def _counter(self, name: str, help_: str) -> Counter:
        return Counter(name, help_, registry=self._registry)

    def _histogram(self, name: str, help_: str) -> Histogram:
        return Histogram(name, help_, buckets=_SECONDS, registry=self._registry)

    def published(self, *, matched: int, duplicate: bool, seconds: float) -> None:
        self._publish_seconds.observe(seconds)
        if duplicate:
            self._duplicates.inc()
            return
        self._published.inc()
        if matched:
            self._routed.inc(matched)
        else:
            self._unmatched.inc()

    def refused(self) -> None:
        self._refused.inc()

    def attempted(self, kind: str, *, ok: bool, retried: bool, seconds: float) -> None:
        self._attempts.labels(kind, "success" if ok else "failed").inc()
        self._attempt_seconds.observe(seconds)
        if retried:
            self._retried.inc()
        elif not ok:
            self._exhausted.inc()

    def first_delivery(self, seconds: float) -> None:
        self._delivery_seconds.observe(seconds)

    def committed(self, size: int, seconds: float) -> None:
        self._commit_size.observe(size)
        self._commit_seconds.observe(seconds)

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        self._in_flight.set_function(count)

    def backlog(self, *, waiting: int, oldest_age: float) -> None:
        self._waiting.set(waiting)
        self._oldest.set(oldest_age)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
