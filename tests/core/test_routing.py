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
