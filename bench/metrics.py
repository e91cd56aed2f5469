"""What the metrics API costs: month queries over ten million attempts, and counting while events are recorded.

uv run python -m bench.metrics
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, product
from pathlib import Path

from msgspec import Struct

from waypost.core import metering
from waypost.core.keeping import Keeping
from waypost.core.metering import ATTEMPTS, EVENTS, MINUTE, Subject
from waypost.core.model import DAY, Delivery, Destination, Event, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.settle import settle
from waypost.flow import clock
from waypost.flow.metering import Bounds, Metering
from waypost.machine import settle_down
from waypost.store.base import Publication, Result
from waypost.store.sqlite import SqliteStore, life
from waypost.store.sqlite.meter import Meter, Series, View, number_of
from waypost.store.sqlite.rollups import fold
from waypost.store.sqlite.watch import Watch
from waypost.store.vault import Vault

DESTINATIONS, TOPICS, DAYS = 5, 5, 30
OUTCOMES = [("200", True, 1, 0.90), ("503", False, 1, 0.06), ("200", True, 2, 0.03), ("503", False, 2, 0.01)]
"""Code, success, attempt number and share of all attempts."""
MONTH_END: Micros = clock.now() // DAY * DAY
MONTH: Micros = MONTH_END - DAYS * DAY
KEPT_MINUTES = 3 * 24 * 60
"""As long as the settings have minutes kept."""
GROUP = 128


class Ask(Struct, frozen=True):
    what: str
    subject: Subject
    by: str | None = None
    dimensions: tuple[str, ...] = ()
    filters: dict[str, tuple[str, ...]] = {}
    start: Micros = MONTH


ASKS = [
    Ask("all attempts", ATTEMPTS),
    Ask("all attempts by day", ATTEMPTS, "1d"),
    Ask("all attempts by hour", ATTEMPTS, "1h"),
    Ask("by hour, topic and status", ATTEMPTS, "1h", ("topic", "status")),
    Ask("by code and attempt number", ATTEMPTS, None, ("code", "attempt_number")),
    Ask("by tenant", ATTEMPTS, None, ("tenant_id",)),
    Ask("by day and tenant", ATTEMPTS, "1d", ("tenant_id",)),
    Ask("by destination", ATTEMPTS, None, ("destination_id",)),
    Ask("by week, destination and status", ATTEMPTS, "1w", ("destination_id", "status")),
    Ask("one tenant by hour and status", ATTEMPTS, "1h", ("status",), {"tenant_id": ("t1",)}),
    Ask("one destination by day and code", ATTEMPTS, "1d", ("code",), {"destination_id": ("t1-1",)}),
    Ask(
        "one topic's failures by day and tenant",
        ATTEMPTS,
        "1d",
        ("tenant_id",),
        {"topic": ("p1",), "status": ("failed",)},
    ),
    Ask("the last day by 5 minutes", ATTEMPTS, "5m", (), {}, MONTH_END - DAY),
    Ask("one tenant's last day by 5 minutes", ATTEMPTS, "5m", (), {"tenant_id": ("t1",)}, MONTH_END - DAY),
    Ask("all events by hour and topic", EVENTS, "1h", ("topic",)),
    Ask("events by day and destination", EVENTS, "1d", ("destination_id",)),
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.metrics", description=__doc__)
    parser.add_argument("--attempts", type=int, default=10_000_000, help="attempts of the month")
    parser.add_argument("--tenants", type=int, default=200, help="tenants that they belong to")
    parser.add_argument("--runs", type=int, default=20, help="how often each question is asked")
    parser.add_argument("--recorded", type=int, default=20_000, help="events accepted and recorded with and without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _make(path / "month.db", options.attempts, options.tenants)
        asyncio.run(_queries(path / "month.db", options.runs))
        for destinations in (1, 1_000):
            _recording(path / f"recorded-{destinations}.db", options.recorded, destinations)


# month queries


def _make(path: Path, attempts: int, tenants: int) -> None:
    began = time.perf_counter()
    asyncio.run(_create(path))
    connection = sqlite3.connect(path, isolation_level=None)
    total = _fill(connection, attempts, tenants)
    connection.close()
    size, took = path.stat().st_size / 1e6, time.perf_counter() - began
    print(f"{total:,} attempts of {DAYS} days in counts: {size:,.0f} MB, {took:.0f} s to make\n")


async def _create(path: Path, *destinations: Destination) -> None:
    store = _store(path)
    await store.open()
    await store.put_tenant("t", None, now=MONTH)
    for destination in destinations:
        await store.add_destination(destination, limit=len(destinations))
    await store.close()


async def _queries(path: Path, runs: int) -> None:
    store = _store(path)
    await store.open()
    metering_ = Metering(store, Bounds())
    print(f"{'question':<42}{'points':>8}{'p50 ms':>9}{'p95 ms':>9}")
    for ask in ASKS:
        seconds = []
        for _ in range(runs):
            answer = await metering_.ask(
                ask.subject,
                start=ask.start,
                end=MONTH_END,
                granularity=metering.granularity(ask.by) if ask.by else None,
                measures=("count", "rate") if ask.subject is EVENTS else ("count", "error_rate", "avg_attempt_number"),
                dimensions=ask.dimensions,
                filters=ask.filters,
            )
            seconds.append(answer.took)
        ordered = sorted(seconds)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        print(f"{ask.what:<42}{len(answer.points):>8,}{statistics.median(seconds) * 1e3:>9.1f}{p95 * 1e3:>9.1f}")
    await store.close()


def _fill(connection: sqlite3.Connection, attempts: int, tenants: int) -> int:
    """A month of counts, as folding leaves them. Returns how many attempts they count."""
    connection.execute("BEGIN")
    fine = [(number_of(connection, series), rate) for series, rate in _series(attempts, tenants)]
    connection.executemany("INSERT INTO rollups VALUES (1, ?, ?, ?)", _minutes(fine))
    connection.executemany("INSERT INTO rollups VALUES (60, ?, ?, ?)", _hours(fine))
    connection.execute(
        "INSERT INTO rollups SELECT 1440, series, bucket / 1440 * 1440, sum(count) FROM rollups WHERE width = 60"
        " GROUP BY 2, 3"
    )
    connection.execute(
        "INSERT INTO rollups SELECT r.width, s.whole, r.bucket, sum(r.count) FROM rollups r"
        " JOIN series_sums s ON s.part = r.series WHERE s.whole <> r.series GROUP BY 1, 2, 3"
    )
    connection.execute("COMMIT")
    (counted,) = connection.execute(
        "SELECT sum(r.count) FROM rollups r JOIN series s ON s.no = r.series WHERE r.width = 1440 AND s.view = ?",
        (View.ATTEMPTS,),
    ).fetchone()
    return int(counted)


def _series(attempts: int, tenants: int) -> Iterator[tuple[Series, float]]:
    """Every series that is counted while recording, and how much it counts in an hour."""
    first = sum(share for *_, number, share in OUTCOMES if number == 1)
    an_hour = attempts / (DAYS * 24 * tenants * TOPICS)
    for tenant, topic in product(map("t{}".format, range(tenants)), map("p{}".format, range(TOPICS))):
        yield Series(View.EVENTS, tenant, topic), an_hour * first
        for destination in (f"{tenant}-{number}" for number in range(DESTINATIONS)):
            share = an_hour / DESTINATIONS
            yield Series(View.ROUTED, tenant, topic, destination), share * first
            for code, ok, number, part in OUTCOMES:
                series = Series(
                    View.ATTEMPTS, tenant, topic, destination, "webhook", code, ok, manual=False, number=number
                )
                yield series, share * part


def _hours(series: Sequence[tuple[int, float]], since: int = 0) -> Iterator[tuple[int, int, int]]:
    begins = MONTH // MINUTE
    for no, rate in series:
        phase = no * 0.618 % 1
        before = int(since * rate + phase)
        for hour in range(since, DAYS * 24):
            after = int((hour + 1) * rate + phase)
            if after > before:
                yield no, begins + hour * 60, after - before
            before = after


def _minutes(series: Sequence[tuple[int, float]]) -> Iterator[tuple[int, int, int]]:
    """The hours of which minutes are kept, spread out."""
    for no, hour, many in _hours(series, since=DAYS * 24 - KEPT_MINUTES // 60):
        spread = Counter((no * 7 + number * 60 // many) % 60 for number in range(many))
        for minute, part in sorted(spread.items()):
            yield no, hour + minute, part


# recording


class Idle(Meter):
    """Counts nothing."""

    def accepted(self, db: sqlite3.Connection, publications: Iterable[Publication]) -> None:
        pass

    def recorded(self, db: sqlite3.Connection, results: Iterable[Result]) -> None:
        pass


def _recording(path: Path, events: int, destinations: int) -> None:
    """Accept and record groups of events, in turn with and without counting them, on one database."""
    asyncio.run(_create(path, *map(_destination, range(destinations))))
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
    connection.execute("PRAGMA synchronous = OFF")
    watch = Watch((), Vault([bytes(32)]), clock.Sequence().next)
    meters = {"without": Idle(), "with": Meter()}
    made = _Made(destinations)
    seconds: dict[tuple[str, str], list[float]] = {(verb, name): [] for verb in ("accept", "record") for name in meters}
    for group in range(2 * events // GROUP):
        name = ("without", "with")[group % 2]
        publications = [made.publication() for _ in range(GROUP)]
        results = [made.result(publication) for publication in publications]
        accept = partial(life.accept, connection, [tuple(publications)], meters[name])
        record = partial(life.record, connection, results, watch, meters[name], Keeping())
        seconds["accept", name].append(_timed(connection, accept))
        seconds["record", name].append(_timed(connection, record))
    folding = [_timed(connection, partial(fold, connection, 500))]
    while connection.execute("SELECT 1 FROM rollups_fresh").fetchone():
        folding.append(_timed(connection, partial(fold, connection, 500)))
    connection.close()
    print(f"\nus of CPU for each of {events:,} events to {destinations:,} destinations, in groups of {GROUP}")
    for verb in ("accept", "record"):
        without, counted = (statistics.median(seconds[verb, name]) * 1e6 / GROUP for name in meters)
        print(f"  {verb:<8}{without:>8.1f} without counting{counted:>8.1f} with{counted - without:>+8.1f}")
    print(f"  fold    {sum(folding) * 1e6 / events:>8.2f} later, at most {max(folding) * 1e3:.0f} ms at once")


def _timed(connection: sqlite3.Connection, action: Callable[[], object]) -> float:
    began = time.thread_time()
    connection.execute("BEGIN IMMEDIATE")
    action()
    connection.execute("COMMIT")
    return time.thread_time() - began


def _destination(number: int) -> Destination:
    return Destination(
        no=number + 1,
        id=f"d{number}",
        tenant_id="t",
        type="webhook",
        topics=("*",),
        config={},
        credentials={},
        created_at=MONTH,
        updated_at=MONTH,
    )


class _Made:
    """Publications to the destinations in turn, and their first attempts."""

    def __init__(self, destinations: int) -> None:
        self._turns = cycle(map(_destination, range(destinations)))
        self._topics = cycle(map("p{}".format, range(TOPICS)))
        self._sequence = clock.Sequence()

    def publication(self) -> Publication:
        seq, now = self._sequence.next(), clock.now()
        event = Event(seq=seq, id=f"e{seq}", tenant_id="t", topic=next(self._topics), time=now, data=b"{}")
        return Publication(event=event, matched=(next(self._turns),), skipped=(), accepted_at=now, lease_until=now)

    def result(self, publication: Publication) -> Result:
        now, (to,) = clock.now(), publication.matched
        delivery = Delivery(
            event=publication.event, destination_no=to.no, attempt=1, retries=0, manual=False, lease_until=now
        )
        outcome = Outcome(ok=True, code="200", started_at=now, latency=2_000)
        return Result(
            seq=self._sequence.next(),
            delivery=delivery,
            destination_type=to.type,
            outcome=outcome,
            settlement=settle(delivery, outcome, RetryPolicy(), now=now, jitter=0.0),
        )


def _store(path: Path) -> SqliteStore:
    return SqliteStore(path, Vault([bytes(32)]), clock=clock.now, next_seq=clock.Sequence().next)


if __name__ == "__main__":
    settle_down()
    main()
