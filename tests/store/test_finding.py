"""Every condition of the lists, alone and together, against a plain filter over all that there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

import pytest
from msgspec import structs

from waypost.core.model import SECOND, Destination, Event, Micros
from waypost.core.retry import RetryPolicy
from waypost.core.routing import REASONS, Skip
from waypost.core.settle import settle
from waypost.core.status import Status
from waypost.flow.clock import Sequence as SequenceNumbers
from waypost.store.alerting import Entry
from waypost.store.base import AttemptQuery, EventQuery, Page, Result, Slice, Store, StoredAttempt, StoredEvent
from waypost.store.deliveries import DeliveryQuery, StoredDelivery
from waypost.store.paging import Direction, Range, TimeRange
from waypost.store.sqlite import deliveries as sqlite_deliveries
from waypost.store.sqlite import finding

from .builders import NOW, OPERATOR, delivery, destination, outcome, publication

T = TypeVar("T")

TENANTS = ("acme", "zeta", "umbrella")
TOPICS = ("order.created", "order.paid", "user.left")
CODES = ("200", "202", "404", "503", "timeout", "tls_error")
EVENTS = 60
QUERIES = 120
GONE = RetryPolicy(limit=0)
CANCELLING = Entry(actor=OPERATOR, action="delivery.cancel", tenant_id="acme", subject="dlv_1")


class Population:
    """Events, deliveries in every status, attempts of all sorts, for three tenants; the same for the same seed."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = Random(seed)
        self.sequence = SequenceNumbers(node=4, clock=lambda: NOW)
        self.destinations: dict[int, Destination] = {}
        self.expected: dict[tuple[int, int], Status] = {}

    async def fill(self) -> None:
        for tenant_id in TENANTS:
            await self.store.put_tenant(tenant_id, None, now=NOW)
            for number in range(self.random.randrange(1, 4)):
                kind = self.random.choice(("webhook", "kafka"))
                made = destination(tenant_id, f"des_{number}", type=kind)
                kept = await self.store.add_destination(made, limit=20)
                self.destinations[kept.no] = kept
        for number in range(EVENTS):
            await self._event(number)

    async def _event(self, number: int) -> None:
        random = self.random
        tenant_id = random.choice(TENANTS)
        own = [to for to in self.destinations.values() if to.tenant_id == tenant_id]
        kinds = {to.no: random.choice(("matched", "matched", "kept", "skipped")) for to in own}
        made = Event(
            seq=self.sequence.next(),
            id=f"evt_{number % 50}_{tenant_id}",
            tenant_id=tenant_id,
            topic=random.choice(TOPICS),
            time=NOW + random.randrange(20) * SECOND,
            data=b"{}",
        )
        skipped = tuple(Skip(to.id, random.choice(REASONS)) for to in own if kinds[to.no] == "skipped")
        matched = [to for to in own if kinds[to.no] == "matched"]
        kept = tuple(to for to in own if kinds[to.no] == "kept")
        leased = random.random() < 0.5
        accepted = await self.store.accept(
            structs.replace(publication(made, *matched, leased=leased), skipped=skipped, kept=kept)
        )
        if accepted.duplicate:
            return
        for to in kept:
            self.expected[made.seq, to.no] = Status.DISABLED
        for to in matched:
            self.expected[made.seq, to.no] = await self._go_on(made, to, leased=leased)

    async def _go_on(self, made: Event, to: Destination, *, leased: bool) -> Status:
        came = self.random.choice((None, None, Status.RETRYING, Status.DELIVERED, Status.EXHAUSTED, Status.CANCELLED))
        if came is None:
            return Status.DELIVERING if leased else Status.PENDING
        if came is Status.CANCELLED:
            assert await self.store.deliveries.cancel(made.seq, to.no, CANCELLING)
            return came
        ok = came is Status.DELIVERED
        code = self.random.choice([code for code in CODES if code.startswith("2") is ok])
        latency = self.random.choice((900, 5_000, 999_999, 1_000_000, 40_000_000))
        first = delivery(made, to, manual=self.random.random() < 0.2)
        policy, ended = GONE if came is Status.EXHAUSTED else RetryPolicy(retry_on="any"), NOW + latency
        made_of_it = outcome(ok=ok, code=code, latency=latency)
        kept = Result(
            seq=self.sequence.next(),
            delivery=first,
            destination_type=to.type,
            outcome=made_of_it,
            settlement=settle(first, made_of_it, policy, now=ended, jitter=0.0),
        )
        assert await self.store.record(kept)
        return came

    # what to ask for

    def some(self, values: Sequence[T], *, often: float = 0.3) -> tuple[T, ...]:
        if self.random.random() > often:
            return ()
        return tuple(self.random.choices(values, k=self.random.randrange(1, 3)))

    def bounds(self, kind: Callable[..., T], low: int, high: int) -> T:
        names = [name for name in ("gte", "gt", "lte", "lt") if self.random.random() < 0.1]
        return kind(**{name: self.random.randrange(low, high) for name in names})

    def time(self) -> TimeRange:
        return self.bounds(TimeRange, NOW, NOW + 20 * SECOND)

    def destination_ids(self) -> tuple[str, ...]:
        return self.some(("des_0", "des_1", "des_2", "des_9"))


def within(value: Micros, bounds: Range) -> bool:
    return (
        (bounds.gte is None or value >= bounds.gte)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.lte is None or value <= bounds.lte)
        and (bounds.lt is None or value < bounds.lt)
    )


def among(value: T, wanted: Sequence[T]) -> bool:
    return not wanted or value in wanted


async def read(
    ask: Callable[[Page], Awaitable[Slice[T]]],
    position: Callable[[T], tuple[int, int]],
    direction: Direction,
    limit: int,
) -> list[T]:
    """All of a list page by page, and back again."""
    pages: list[Slice[T]] = [await ask(Page(limit=limit, direction=direction))]
    while pages[-1].has_next:
        pages.append(await ask(Page(limit=limit, direction=direction, after=position(pages[-1].items[-1]))))
    for before, page in zip(reversed(pages[:-1]), reversed(pages[1:]), strict=True):
        back = await ask(Page(limit=limit, direction=direction, before=position(page.items[0])))
        assert back.items == before.items
    return [item for page in pages for item in page.items]


@pytest.fixture(params=["as it is", "in order", "one by one"])
def thresholds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, one way or the other leads to them."""
    few, not_many, many = {"as it is": (1_000, 10_000, 100), "in order": (0, 0, 0), "one by one": (0, 10_000, 100)}[
        request.param
    ]
    for name, value in (
        ("FEW", few),
        ("_FEW_EVENTS", few),
        ("_NOT_MANY", not_many),
        ("_MANY", many),
    ):
        monkeypatch.setattr(finding, name, value)
    monkeypatch.setattr(sqlite_deliveries, "_NOT_MANY", not_many)
    monkeypatch.setattr(sqlite_deliveries, "_MANY", many)


@pytest.fixture(params=[1, 2])
async def population(request: pytest.FixtureRequest, store: Store) -> Population:
    made = Population(store, request.param)
    await made.fill()
    return made


async def everything(population: Population) -> tuple[list[StoredEvent], list[StoredDelivery], list[StoredAttempt]]:
    store, all_of_them = population.store, Page(limit=1_000, direction=Direction.ASC)
    return (
        list((await store.events(EventQuery(), all_of_them)).items),
        list((await store.deliveries.list(DeliveryQuery(), all_of_them)).items),
        list((await store.attempts(AttemptQuery(), all_of_them)).items),
    )


async def test_deliveries_stand_as_they_should(population: Population) -> None:
    events, deliveries, _ = await everything(population)
    assert {(each.event_seq, each.destination_no): each.status for each in deliveries} == population.expected
    assert {each.status for each in deliveries} == set(Status) - {Status.SKIPPED}
    of_events = await population.store.deliveries.of_events([each.event.seq for each in events])
    together = {(each.event_seq, each.destination_no): each for some in of_events.values() for each in some}
    assert together == {(each.event_seq, each.destination_no): each for each in deliveries}


@pytest.mark.usefixtures("thresholds")
async def test_events_by_any_conditions(population: Population) -> None:
    events, deliveries, _ = await everything(population)
    ids = [each.event.id for each in events]

    def fits(stored: StoredEvent, query: EventQuery) -> bool:
        statuses = {(each.destination_id, each.status) for each in deliveries if each.event_seq == stored.event.seq}
        routed = {destination_id for destination_id, _ in statuses}
        statuses |= {(skip.destination_id, Status.SKIPPED) for skip in stored.skipped}
        skips = [
            skip
            for skip in stored.skipped
            if among(skip.destination_id, query.skipped_by) and among(skip.reason, query.skip_reasons)
        ]
        wanted = [at for at, status in statuses if status in query.statuses] if query.statuses else list(routed)
        return (
            among(stored.event.id, query.ids)
            and among(stored.event.tenant_id, query.tenant_ids)
            and among(stored.event.topic, query.topics)
            and within(stored.event.time, query.time)
            and (not (query.skipped_by or query.skip_reasons) or bool(skips))
            and (
                not (query.statuses or query.destination_ids) or any(among(at, query.destination_ids) for at in wanted)
            )
        )

    for _ in range(QUERIES):
        query = EventQuery(
            ids=population.some(ids, often=0.1),
            tenant_ids=population.some(TENANTS),
            destination_ids=population.destination_ids(),
            topics=population.some(TOPICS),
            statuses=population.some(list(Status)),
            skipped_by=population.some(("des_0", "des_1"), often=0.1),
            skip_reasons=population.some(REASONS, often=0.1),
            time=population.time(),
        )
        expected = sorted(
            (each for each in events if fits(each, query)), key=lambda each: (each.event.time, each.event.seq)
        )
        direction, limit = population.random.choice(list(Direction)), population.random.choice((1, 7, 1_000))
        found = await read(
            lambda page, query=query: population.store.events(query, page),  # type: ignore[misc]
            lambda each: (each.event.time, each.event.seq),
            direction,
            limit,
        )
        assert found == (expected if direction is Direction.ASC else expected[::-1]), query


@pytest.mark.usefixtures("thresholds")
async def test_deliveries_by_any_conditions(population: Population) -> None:
    _, deliveries, _ = await everything(population)
    ids = [each.event_id for each in deliveries]

    def fits(each: StoredDelivery, query: DeliveryQuery) -> bool:
        return (
            among(each.event_id, query.event_ids)
            and among(each.tenant_id, query.tenant_ids)
            and among(each.destination_id, query.destination_ids)
            and among(each.status, query.statuses)
            and (query.due == TimeRange() or (each.due is not None and within(each.due, query.due)))
        )

    for _ in range(QUERIES):
        query = DeliveryQuery(
            tenant_ids=population.some(TENANTS),
            destination_ids=population.destination_ids(),
            event_ids=population.some(ids, often=0.1),
            statuses=population.some([status for status in Status if status is not Status.SKIPPED]),
            due=population.bounds(TimeRange, NOW, NOW + 100 * SECOND),
        )
        expected = [each for each in deliveries if fits(each, query)]
        direction, limit = population.random.choice(list(Direction)), population.random.choice((1, 7, 1_000))
        found = await read(
            lambda page, query=query: population.store.deliveries.list(query, page),  # type: ignore[misc]
            lambda each: (each.event_seq, each.destination_no),
            direction,
            limit,
        )
        assert found == (expected if direction is Direction.ASC else expected[::-1]), query
        count = await population.store.deliveries.count(query, limit=1_000)
        assert count in {None, len(expected)}, query


@pytest.mark.usefixtures("thresholds")
async def test_attempts_by_any_conditions(population: Population) -> None:
    _, _, attempts = await everything(population)
    ids = [each.event.id for each in attempts]

    def is_of(code: str, wanted: str) -> bool:
        return code[0] == wanted[0] if wanted.endswith("xx") else code == wanted

    def fits(each: StoredAttempt, query: AttemptQuery) -> bool:
        attempt = each.attempt
        return (
            among(attempt.seq, query.ids)
            and among(attempt.tenant_id, query.tenant_ids)
            and among(each.event.id, query.event_ids)
            and among(each.destination.id, query.destination_ids)
            and among(attempt.destination_type, query.destination_types)
            and among(each.event.topic, query.topics)
            and (not query.codes or any(is_of(attempt.code, code) for code in query.codes))
            and (
                query.status_code == Range()
                or (attempt.code.isdigit() and within(int(attempt.code), query.status_code))
            )
            and within(attempt.latency, query.latency)
            and query.manual in {None, attempt.manual}
            and query.ok in {None, attempt.ok}
        )

    for _ in range(QUERIES):
        query = AttemptQuery(
            ids=population.some([each.attempt.seq for each in attempts], often=0.1),
            tenant_ids=population.some(TENANTS),
            event_ids=population.some(ids, often=0.1),
            destination_ids=population.destination_ids(),
            destination_types=population.some(("webhook", "kafka", "pigeon")),
            topics=population.some(TOPICS),
            codes=population.some((*CODES, "2xx", "4xx", "5xx", "418")),
            status_code=population.bounds(Range, 199, 505),
            latency=population.random.choice(
                (Range(), Range(gte=1_000_000), Range(gt=4_999, lt=1_000_000), Range(lte=900))
            ),
            manual=population.random.choice((None, None, True, False)),
            ok=population.random.choice((None, None, True, False)),
        )
        expected = [each for each in attempts if fits(each, query)]
        direction, limit = population.random.choice(list(Direction)), population.random.choice((1, 7, 1_000))
        found = await read(
            lambda page, query=query: population.store.attempts(query, page),  # type: ignore[misc]
            lambda each: (each.attempt.seq, each.attempt.seq),
            direction,
            limit,
        )
        assert found == (expected if direction is Direction.ASC else expected[::-1]), query


async def test_counting_stops_at_a_limit(population: Population) -> None:
    _, deliveries, _ = await everything(population)
    waiting = [each for each in deliveries if each.status is Status.PENDING]
    query = DeliveryQuery(statuses=(Status.PENDING,))
    assert await population.store.deliveries.count(query, limit=1_000) == len(waiting)
    assert await population.store.deliveries.count(query, limit=2) == 2
    assert await population.store.deliveries.count(DeliveryQuery(), limit=1_000) is None
    assert await population.store.deliveries.count(DeliveryQuery(statuses=(Status.DELIVERED,)), limit=10) is None
