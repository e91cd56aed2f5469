from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.store.builders import NOW, destination, event
from waypost.core import filters, topics
from waypost.core.model import Destination
from waypost.core.routing import Route, route

subscriptions = st.lists(st.sampled_from(["*", "order.*", "order.created", "user.created"]), min_size=1, max_size=3)
destinations = st.lists(
    st.builds(lambda patterns, disabled: (tuple(patterns), NOW if disabled else None), subscriptions, st.booleans()),
    max_size=6,
)


def routes(*wanted: Destination) -> list[Route]:
    compiled = [filters.compile_filter(each.filter) if each.filter else None for each in wanted]
    return [Route.of(each, matcher) for each, matcher in zip(wanted, compiled, strict=True)]


@given(destinations, st.sampled_from(["order.created", "user.created", ""]), st.none() | st.integers(0, 6))
def test_every_destination_is_matched_or_skipped_with_its_reason(
    drawn: list[tuple[tuple[str, ...], int | None]], topic: str, addressed: int | None
) -> None:
    wanted = [
        destination(destination_id=f"des_{n}", topics=patterns, disabled_at=disabled)
        for n, (patterns, disabled) in enumerate(drawn)
    ]
    to = None if addressed is None else f"des_{addressed}"
    routing = route(event(topic=topic, destination_id=to), routes(*wanted))
    reasons = {skip.destination_id: skip.reason for skip in routing.skipped}
    assert len(routing.matched) + len(reasons) == len(wanted)
    for each in wanted:
        if to is not None and to != each.id:
            expected = "not_addressed"
        elif not any(topics.covers(pattern, topic) for pattern in each.topics):
            expected = "topic"
        elif each.disabled_at is not None:
            expected = "disabled"
            assert each in routing.kept
        else:
            assert each in routing.matched
            continue
        assert reasons[each.id] == expected


def test_a_filter_says_which_clause_failed() -> None:
    picky = destination(filter={"data": {"amount": {"$gte": 100}}})
    small, large = event(data=b'{"amount": 5}'), event(data=b'{"amount": 500}')
    (skip,) = route(small, routes(picky)).skipped
    assert (skip.destination_id, skip.reason) == (picky.id, "filter")
    assert skip.detail is not None
    assert "amount" in skip.detail
    assert route(large, routes(picky)).matched == (picky,)


def test_several_filters_see_the_same_event() -> None:
    wanted = [destination(destination_id=f"des_{n}", filter={"data": {"n": n}}) for n in range(5)]
    matched = route(event(data=b'{"n": 3}'), routes(*wanted)).matched
    assert matched == (wanted[3],)


def test_an_addressed_event_still_obeys_the_topics() -> None:
    only = destination(topics=("user.*",))
    (skip,) = route(event(topic="order.created", destination_id=only.id), routes(only)).skipped
    assert skip.reason == "topic"
    assert route(event(topic="user.created", destination_id=only.id), routes(structs.replace(only))).matched == (only,)


# --- what filters may spend on one event ------------------------------------------------------------------------------

COSTLY = {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * 400}}}}
CHEAP = {"data": {"n": 3}}
LISTED = event(data=b'{"n": 3, "l": [' + b",".join([b'{"k": 1}'] * 1_000) + b"]}")


def test_a_costly_filter_is_a_reason_of_its_own_and_costs_the_others_nothing() -> None:
    wanted = [destination(destination_id=f"des_{n}", filter=COSTLY if n % 2 else CHEAP) for n in range(20)]
    routing = route(LISTED, routes(*wanted))
    assert routing.matched == tuple(wanted[::2])
    assert {skip.reason for skip in routing.skipped} == {"filter_cost"}
    assert all("more work than is left of the 100000 steps" in str(skip.detail) for skip in routing.skipped)
    assert routing.spent <= 100_000


@given(st.permutations(["costly", "cheap", "cheap", "middling", "none"]))
def test_the_order_of_destinations_decides_nothing(order: list[str]) -> None:
    kinds = {"costly": COSTLY, "cheap": CHEAP, "middling": {"data": {"l": {"k": 1}, "n": {"$gt": 4}}}, "none": None}
    wanted = [destination(destination_id=f"des_{n}", filter=kinds[kind]) for n, kind in enumerate(order)]
    routing = route(LISTED, routes(*wanted))
    assert [order[int(each.id[4:])] for each in routing.matched] == [k for k in order if k in {"cheap", "none"}]
    reasons = {order[int(skip.destination_id[4:])]: skip.reason for skip in routing.skipped}
    assert reasons == {"costly": "filter_cost", "middling": "filter"}


def test_what_cheap_filters_leave_is_there_for_others() -> None:
    middling = {"data": {"l": {"k": {"$or": [1, 2, 3, 4]}}, "n": 3}}
    wanted = [destination(destination_id=f"des_{n}", filter=CHEAP) for n in range(199)]
    last = destination(destination_id="des_last", filter=middling)
    assert last in route(LISTED, routes(*wanted, last)).matched
    assert last not in route(LISTED, routes(*wanted, last), steps=1_000).matched


def test_a_reason_that_would_take_too_much_work_is_not_told() -> None:
    picky = destination(filter={"data": {"l": {"k": {"$gt": 5}}}})
    steps = route(LISTED, routes(picky)).spent
    (skip,) = route(LISTED, routes(picky), steps=steps - 100).skipped
    assert (skip.reason, skip.detail) == ("filter", "What decided takes too much work to say.")
