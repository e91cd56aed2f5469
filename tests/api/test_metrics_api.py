"""The metrics API: exact whatever is asked and wherever the counts lie, and clear about what it will not answer."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.store import builders
from tests.store.conftest import sqlite_store
from waypost.core import ids, times
from waypost.core.metering import ATTEMPTS, EVENTS, HOUR, MINUTE
from waypost.core.model import DAY, SECOND, Destination, Event, Micros

from .kit import Caller, World, error

NOON: Micros = builders.NOW // DAY * DAY + 12 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_OF_NOON = "time[start]=2027-01-15&time[end]=2027-01-16"
UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


class Happened(NamedTuple):
    """An event or an attempt as the slow and obvious computation sees it."""

    time: Micros
    dimensions: dict[str, str]
    destination_ids: tuple[str, ...] = ()


class Ledger:
    """Puts events and attempts on record at any time, and remembers them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Happened] = []
        self.attempts: list[Happened] = []
        self._published: list[tuple[Event, tuple[Destination, ...]]] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._counter = itertools.count()

    async def open(self) -> None:
        create = self.world.destination
        self._destinations = {
            "acme": (
                await create(id="des_1"),
                await create(id="des_2", type="pigeon", config={"loft": "a"}, credentials={"ring": "r"}),
            ),
            "zeta": (await create("zeta", id="des_1"),),
        }

    async def open_again(self) -> None:
        """Create acme's first destination anew, under the same id."""
        self._destinations["acme"] = (await self.world.destination(id="des_1"),)

    async def event(self, at: Micros, *, tenant_id: str = "acme", topic: str = "a", matched: int = 1) -> None:
        seq = self._seq(NOON)
        made = Event(seq=seq, id=f"evt_{seq}", tenant_id=tenant_id, topic=topic, time=at, data=b"{}")
        to = self._destinations[tenant_id][:matched]
        again = structs.replace(made, seq=self._seq(NOON), topic="again")  # a duplicate does not count
        await self.world.store.accept_many([builders.publication(each, *to) for each in (made, again)])
        self._published.append((made, to))
        here = {"tenant_id": tenant_id, "topic": topic}
        self.events.append(Happened(at, here, tuple(destination.id for destination in to)))

    async def attempt(
        self, at: Micros, *, of: int = -1, to: int = 0, ok: bool = True, code: str = "200", manual: bool = False
    ) -> None:
        event, matched = self._published[of % len(self._published)]
        if not matched:
            return
        destination = matched[to % len(matched)]
        number = self._numbers[event.seq, destination.no] = self._numbers.get((event.seq, destination.no), 0) + 1
        delivery = builders.delivery(event, destination, attempt=number, manual=manual)
        made = structs.replace(
            builders.result(delivery, builders.outcome(ok=ok, code=code)),
            seq=self._seq(at),
            destination_type=destination.type,
        )
        assert await self.world.store.record(made)
        assert await self.world.store.record(made) is None  # what comes too late does not count
        here = {
            "tenant_id": event.tenant_id,
            "destination_id": destination.id,
            "destination_type": destination.type,
            "topic": event.topic,
            "status": "success" if ok else "failed",
            "code": code,
            "manual": str(manual).lower(),
            "attempt_number": str(number),
        }
        self.attempts.append(Happened(at // 1000 * 1000, here))

    def _seq(self, at: Micros) -> int:
        return ids.compose(at // 1000, 0, next(self._counter))


class Asked(NamedTuple):
    """A question as it is sent."""

    subject: str
    start: Micros
    end: Micros
    granularity: str | None
    dimensions: tuple[str, ...]
    filters: Mapping[str, tuple[str, ...]]
    tenant_id: str | None

    @property
    def query(self) -> str:
        measures = (ATTEMPTS if self.subject == "attempts" else EVENTS).measures
        parts = [f"time[start]={times.render(self.start)}", f"time[end]={times.render(self.end)}"]
        parts += [f"measures[]={measure}" for measure in measures]
        parts += [f"dimensions[{number}]={name}" for number, name in enumerate(self.dimensions)]
        parts += [f"filters[{name}]={value}" for name, values in self.filters.items() for value in values]
        return "&".join([*parts, *([f"granularity={self.granularity}"] if self.granularity else [])])


def slow(ledger: Ledger, asked: Asked) -> list[dict[str, Any]]:
    """The answer by looking at everything that ever happened."""
    happened: Iterable[Happened] = ledger.attempts
    if asked.subject == "events":
        happened = ledger.events
        if "destination_id" in {*asked.dimensions, *asked.filters}:
            happened = [
                Happened(one.time, {**one.dimensions, "destination_id": destination_id})
                for one in happened
                for destination_id in one.destination_ids
            ]
    filters = {**asked.filters, **({"tenant_id": (asked.tenant_id,)} if asked.tenant_id else {})}
    chosen = [
        one
        for one in happened
        if asked.start <= one.time < asked.end
        and all(one.dimensions[name] in values for name, values in filters.items())
    ]
    buckets = slow_buckets(asked)
    combinations = {tuple(one.dimensions[name] for name in asked.dimensions) for one in chosen}
    if asked.granularity and not asked.dimensions:
        combinations.add(())
    return [
        {
            **({"time_bucket": times.render(start)} if asked.granularity else {}),
            "dimensions": dict(zip(asked.dimensions, combination, strict=True)),
            "metrics": slow_measures(
                [
                    one.dimensions
                    for one in chosen
                    if tuple(one.dimensions[name] for name in asked.dimensions) == combination
                    and (not asked.granularity or start <= one.time < end)
                ],
                (end - start) / SECOND,
                asked.subject,
            ),
        }
        for combination in sorted(combinations, key=lambda values: in_order(asked.dimensions, values))
        for start, end in buckets
    ]


def in_order(dimensions: Sequence[str], values: Sequence[str]) -> list[Any]:
    return [int(value) if name == "attempt_number" else value for name, value in zip(dimensions, values, strict=True)]


def slow_buckets(asked: Asked) -> list[tuple[Micros, Micros]]:
    if asked.granularity is None:
        return [(asked.start, asked.end)]
    number, unit = int(asked.granularity[:-1]), asked.granularity[-1]
    found = []
    if unit == "M":
        month = 0
        while start_of_month(month) < asked.end:
            found.append((start_of_month(month), start_of_month(month + number)))
            month += number
    else:
        width = number * UNITS[unit]
        sunday = 3 * DAY if unit == "w" else 0
        at = (asked.start - sunday) // width * width + sunday
        while at < asked.end:
            found.append((at, at + width))
            at += width
    return [(start, end) for start, end in found if end > asked.start]


def start_of_month(number: int) -> Micros:
    return (datetime(1970 + number // 12, number % 12 + 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def slow_measures(chosen: Sequence[Mapping[str, str]], seconds: float, subject: str) -> dict[str, float]:
    total = len(chosen)
    if subject == "events":
        return {"count": total, "rate": total / seconds}
    ok = sum(one["status"] == "success" for one in chosen)
    numbers = [int(one["attempt_number"]) for one in chosen]
    return {
        "count": total,
        "successful_count": ok,
        "failed_count": total - ok,
        "error_rate": (total - ok) / total if total else 0,
        "first_attempt_count": sum(one["attempt_number"] == "1" and one["manual"] == "false" for one in chosen),
        "retry_count": sum(number > 1 for number in numbers),
        "manual_retry_count": sum(one["manual"] == "true" for one in chosen),
        "avg_attempt_number": sum(numbers) / total if total else 0,
        "rate": total / seconds,
        "successful_rate": ok / seconds,
        "failed_rate": (total - ok) / seconds,
    }


@asynccontextmanager
async def opened(**limits: Any) -> AsyncIterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        store = sqlite_store(Path(folder))
        await store.open()
        ledger = Ledger(World(store, **limits))
        await ledger.world.populate()
        await ledger.open()
        yield ledger
        await store.close()


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    async with opened() as made:
        yield made


instants = st.builds(
    lambda days, hours, minutes, rest: NOON - days * DAY - hours * HOUR - minutes * MINUTE - rest,
    st.sampled_from([0, 0, 0, 1, 2, 12, 13, 40]),
    st.sampled_from([0, 0, 1, 2, 12]),
    st.sampled_from([0, 0, 1, 7, 59]),
    st.sampled_from([0, 0, 1, 1_000, 999_000, SECOND, 29 * SECOND + 500_000]),
)
steps = st.one_of(
    st.tuples(
        st.just("event"),
        instants,
        st.fixed_dictionaries(
            {
                "tenant_id": st.sampled_from(["acme", "zeta"]),
                "topic": st.sampled_from(["a", "b", ""]),
                "matched": st.integers(0, 2),
            }
        ),
    ),
    st.tuples(
        st.just("attempt"),
        instants,
        st.fixed_dictionaries(
            {
                "of": st.integers(0, 20),
                "to": st.integers(0, 1),
                "ok": st.booleans(),
                "code": st.sampled_from(["200", "503"]),
                "manual": st.booleans(),
            }
        ),
    ),
    st.tuples(st.just("fold"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("prune"), instants, instants),
)
values = {
    "tenant_id": ["acme", "zeta", "nobody"],
    "topic": ["a", "b"],
    "destination_id": ["des_1", "des_2", "des_3"],
    "destination_type": ["letterbox", "pigeon"],
    "status": ["success", "failed"],
    "code": ["200", "503"],
    "manual": ["true", "false"],
    "attempt_number": ["1", "2", "3"],
}


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    subject = draw(st.sampled_from(["events", "attempts"]))
    tenant_id = draw(st.sampled_from([None, None, "acme"]))
    dimensions = [
        name
        for name in (ATTEMPTS if subject == "attempts" else EVENTS).dimensions
        if not (tenant_id and name == "tenant_id")
    ]
    first, second = draw(instants), draw(instants)
    start, end = min(first, second), max(first, second) + 1
    unit = draw(st.sampled_from(["", "s", "m", "h", "d", "w", "M"]))
    number = draw(st.sampled_from([1, 2, 3, 4, 4, 12] if unit == "M" else [1, 2, 3, 4]))
    if unit in UNITS:
        end = min(end, start + 300 * number * UNITS[unit])
    filtered = draw(st.lists(st.sampled_from(dimensions), max_size=2, unique=True))
    return Asked(
        subject,
        start,
        end,
        f"{number}{unit}" if unit else None,
        tuple(draw(st.lists(st.sampled_from(dimensions), max_size=3, unique=True))),
        {name: tuple(draw(st.lists(st.sampled_from(values[name]), min_size=1, max_size=2))) for name in filtered},
        tenant_id,
    )


@given(st.lists(steps, min_size=5, max_size=40), st.lists(questions(), min_size=8, max_size=8))
async def test_answers_are_those_of_counting_by_hand(
    done: Sequence[tuple[str, Any, Any]], asked: Sequence[Asked]
) -> None:
    async with opened() as ledger:
        await ledger.event(NOON)
        for what, first, second in done:
            if what == "event":
                await ledger.event(first, **second)
            elif what == "attempt":
                await ledger.attempt(first, **second)
            elif what == "fold":
                while await ledger.world.store.rollups.fold(limit=first) and second:
                    pass
            else:
                await prune(ledger, {MINUTE: max(first, second), HOUR: min(first, second)})
        for each in asked:
            caller = ledger.world.acme if each.tenant_id else ledger.world.admin
            assert (await answered(caller, each.subject, each.query))["data"] == slow(ledger, each), each


class TestShape:
    async def test_without_a_granularity_there_is_one_point_and_no_time(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        found = await answered(ledger.world.admin, "events", f"{DAY_OF_NOON}&measures=count")
        assert found["data"] == [{"dimensions": {}, "metrics": {"count": 1}}]
        assert set(found["metadata"]) == {"query_time_ms", "row_count", "row_limit", "truncated"}

    async def test_with_one_every_bucket_is_there(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        found = await answered(ledger.world.admin, "events", f"{DAY_OF_NOON}&measures=count&granularity=6h")
        assert [(point["time_bucket"], point["metrics"]["count"]) for point in found["data"]] == [
            ("2027-01-15T00:00:00Z", 0),
            ("2027-01-15T06:00:00Z", 0),
            ("2027-01-15T12:00:00Z", 1),
            ("2027-01-15T18:00:00Z", 0),
        ]
        metadata = found["metadata"]
        assert metadata.pop("query_time_ms") >= 0
        assert metadata == {"granularity": "6h", "row_count": 4, "row_limit": 100_000, "truncated": False}

    async def test_nothing_is_no_points_or_zeros(self, ledger: Ledger) -> None:
        ask = f"{DAY_OF_NOON}&measures=count"
        assert (await answered(ledger.world.admin, "events", ask))["data"] == []
        assert (await answered(ledger.world.admin, "events", f"{ask}&granularity=1h&dimensions=topic"))["data"] == []
        zeros = (await answered(ledger.world.admin, "events", f"{ask}&granularity=1h"))["data"]
        assert [point["metrics"] for point in zeros] == [{"count": 0}] * 24

    async def test_all_dimensions_are_text(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        await ledger.attempt(NOON)
        dimensions = "&".join(f"dimensions={name}" for name in ATTEMPTS.dimensions)
        (point,) = (await answered(ledger.world.admin, "attempts", f"{DAY_OF_NOON}&measures=count&{dimensions}"))[
            "data"
        ]
        assert point["dimensions"] == {
            "tenant_id": "acme",
            "destination_id": "des_1",
            "destination_type": "letterbox",
            "topic": "a",
            "status": "success",
            "code": "200",
            "manual": "false",
            "attempt_number": "1",
        }

    async def test_what_is_asked_twice_is_answered_once(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        twice = "measures=count&measures=count&dimensions=topic&dimensions=topic"
        (point,) = (await answered(ledger.world.admin, "events", f"{DAY_OF_NOON}&{twice}"))["data"]
        assert point == {"dimensions": {"topic": "a"}, "metrics": {"count": 1}}

    @pytest.mark.parametrize("spelling", ["filters[topic]=b", "filters[topic][]=b", "filters[topic][0]=b"])
    async def test_arrays_in_every_spelling(self, ledger: Ledger, spelling: str) -> None:
        for topic in ("a", "b", "b"):
            await ledger.event(NOON, topic=topic)
        (point,) = (await answered(ledger.world.admin, "events", f"{DAY_OF_NOON}&measures[]=count&{spelling}"))["data"]
        assert point["metrics"] == {"count": 2}

    async def test_the_start_is_in_and_the_end_is_not(self, ledger: Ledger) -> None:
        for instant in (NOON - 1, NOON, NOON + SECOND - 1, NOON + SECOND):
            await ledger.event(instant)
        ask = "time[start]=2027-01-15T12:00:00Z&time[end]=2027-01-15T12:00:01Z&measures=count"
        assert (await answered(ledger.world.admin, "events", ask))["data"][0]["metrics"] == {"count": 2}

    async def test_offsets_are_understood(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        for plus in ("+", "%2B"):
            ask = f"time[start]=2027-01-15T13:00:00{plus}01:00&time[end]=2027-01-15T13:01:00{plus}01:00&measures=rate"
            assert (await answered(ledger.world.admin, "events", ask))["data"][0]["metrics"] == {"rate": 1 / 60}


class TestLimits:
    async def test_what_is_beyond_the_row_limit_is_cut_off(self) -> None:
        async with opened(metrics_row_limit=7) as ledger:
            for topic in ("b", "a", "c"):
                for hour in range(3):
                    await ledger.event(NOON + hour * HOUR, topic=topic)
            hours = "time[start]=2027-01-15T12:00:00Z&time[end]=2027-01-15T15:00:00Z&granularity=1h&dimensions=topic"
            found = await answered(ledger.world.admin, "events", f"{hours}&measures=count")
            assert [point["dimensions"]["topic"] for point in found["data"]] == ["a", "a", "a", "b", "b", "b", "c"]
            assert {point["metrics"]["count"] for point in found["data"]} == {1}
            assert found["metadata"]["truncated"]
            assert found["metadata"]["row_limit"] == found["metadata"]["row_count"] == 7
            fewer = await answered(ledger.world.admin, "events", f"{hours}&measures=count&filters[topic]=a")
            assert not fewer["metadata"]["truncated"]

    async def test_what_is_beyond_the_bytes_of_an_answer_is_cut_off(self) -> None:
        async with opened(page_max_bytes=200) as ledger:
            await ledger.event(NOON)
            hours = "time[start]=2027-01-15T12:00:00Z&time[end]=2027-01-15T15:00:00Z&granularity=1h"
            found = await answered(ledger.world.admin, "events", f"{hours}&measures=count")
            metadata = found["metadata"]
            assert (len(found["data"]), metadata["row_count"], metadata["truncated"]) == (2, 2, True)

    async def test_too_many_buckets(self, ledger: Ledger) -> None:
        refused = await ledger.world.admin.get(f"/metrics/events?{DAY_OF_NOON}&measures=count&granularity=1s")
        assert refused.status_code == 200
        refused = await ledger.world.admin.get(
            "/metrics/events?time[start]=2027-01-15&time[end]=2027-01-17&measures=count&granularity=1s"
        )
        assert error(refused)[:2] == (
            400,
            "query too broad: more than 100000 buckets; ask for a shorter time range or a coarser granularity",
        )

    @pytest.mark.parametrize("subject", ["events", "attempts"])
    async def test_too_much_to_read_one_by_one(self, subject: str) -> None:
        async with opened(metrics_scan_limit=3) as ledger:
            for _ in range(4):
                await ledger.event(NOON + 30 * SECOND)
                await ledger.attempt(NOON + 30 * SECOND)
            ragged = "time[start]=2027-01-15T12:00:10Z&time[end]=2027-01-15T12:00:50Z&measures=count"
            refused = await ledger.world.admin.get(f"/metrics/{subject}?{ragged}")
            assert error(refused)[0] == 400
            assert "more than 3 records would be read one by one" in error(refused)[1]
            whole = "time[start]=2027-01-15T12:00:00Z&time[end]=2027-01-15T12:01:00Z&measures=count"
            assert (await answered(ledger.world.admin, subject, whole))["data"][0]["metrics"] == {"count": 4}
            own = await answered(ledger.world.zeta, subject, ragged)
            assert own["data"] == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("measures=count", "time[start] is required, once"),
            ("time[start]=2027-01-15&measures=count", "time[end] is required, once"),
            (f"{DAY_OF_NOON}&time[end]=2027-01-17&measures=count", "time[end] is required, once"),
            (
                "time[start]=yesterday&time[end]=2027-01-16&measures=count",
                "time[start] must be an RFC 3339 date-time or a date of the form YYYY-MM-DD",
            ),
            (
                "time[start]=2027-01-16&time[end]=2027-01-16&measures=count",
                "time[start] must be before time[end] and not before 1970",
            ),
            (
                "time[start]=1969-01-16&time[end]=2027-01-16&measures=count",
                "time[start] must be before time[end] and not before 1970",
            ),
            (DAY_OF_NOON, "measures must be at least one of: count, rate"),
            (f"{DAY_OF_NOON}&measures=count&measures=median", "measures must be at least one of: count, rate"),
            (
                f"{DAY_OF_NOON}&measures=count&dimensions=colour",
                "dimensions must be among: tenant_id, topic, destination_id",
            ),
            (
                f"{DAY_OF_NOON}&measures=count&filters[colour][0]=red",
                "filters must be among: filters[tenant_id], filters[topic], filters[destination_id]",
            ),
            *[
                (
                    f"{DAY_OF_NOON}&measures=count&granularity={wrong}",
                    "granularity must be one of: 1s to 60s, 1m to 60m, 1h to 24h, 1d to 31d, 1w to 4w, 1M to 12M",
                )
                for wrong in ("hourly", "0h", "25h", "1h&granularity=2h")
            ],
        ],
    )
    async def test_of_events(self, world: World, query: str, sentence: str) -> None:
        assert error(await world.admin.get(f"/metrics/events?{query}")) == (400, sentence, None)

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("filters[status]=successful", "filters[status] must be success or failed"),
            ("filters[manual]=yes", "filters[manual] must be true or false"),
            ("filters[attempt_number]=one", "filters[attempt_number] must be whole numbers"),
        ],
    )
    async def test_of_attempts(self, world: World, query: str, sentence: str) -> None:
        asked = f"/metrics/attempts?{DAY_OF_NOON}&measures=count&{query}"
        assert error(await world.admin.get(asked)) == (400, sentence, None)

    async def test_a_tenant_counts_nobody_elses_and_does_not_name_itself(self, ledger: Ledger) -> None:
        await ledger.event(NOON)
        await ledger.event(NOON, tenant_id="zeta")
        ask = f"{DAY_OF_NOON}&measures=count"
        assert (await answered(ledger.world.admin, "events", ask))["data"][0]["metrics"] == {"count": 2}
        assert (await answered(ledger.world.acme, "events", ask))["data"][0]["metrics"] == {"count": 1}
        for forbidden in ("dimensions=tenant_id", "filters[tenant_id]=acme", "filters[tenant_id]=zeta"):
            assert error(await ledger.world.acme.get(f"/metrics/events?{ask}&{forbidden}"))[0] == 403


async def test_an_event_counts_for_each_destination_it_was_routed_to(ledger: Ledger) -> None:
    await ledger.event(NOON, matched=2)
    await ledger.event(NOON, matched=0)
    counts = {
        query: [point["metrics"]["count"] for point in found["data"]]
        for query in ("", "&dimensions=destination_id", "&filters[destination_id]=des_1&filters[destination_id]=des_2")
        for found in [await answered(ledger.world.admin, "events", f"{DAY_OF_NOON}&measures=count{query}")]
    }
    assert list(counts.values()) == [[2], [1, 1], [2]]


async def test_a_deleted_destination_stays_counted_under_its_id(ledger: Ledger) -> None:
    await ledger.event(NOON)
    await ledger.attempt(NOON)
    await ledger.world.manager.delete("acme", "des_1", by=builders.OPERATOR)
    await ledger.open_again()
    await ledger.event(NOON)
    await ledger.attempt(NOON)
    for subject in ("events", "attempts"):
        found = await answered(ledger.world.admin, subject, f"{DAY_OF_NOON}&measures=count&dimensions=destination_id")
        assert found["data"] == [{"dimensions": {"destination_id": "des_1"}, "metrics": {"count": 2}}]


async def prune(ledger: Ledger, keep_since: Mapping[Micros, Micros]) -> None:
    after: int | None = 0
    while after is not None:
        after = await ledger.world.store.rollups.prune(keep_since, after=after, limit=3)


async def answered(caller: Caller, subject: str, query: str) -> dict[str, Any]:
    answer = await caller.get(f"/metrics/{subject}?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
