"""Several subscriptions take what any of them takes: compared with a slow, obvious interpreter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.filters import strategies
from tests.core.filters.documents import event
from tests.core.filters.interpreter import holds
from tests.store.builders import destination
from waypost.core import topics
from waypost.core.filters import Document, TooCostly, compile_filter, parse
from waypost.core.routing import AnySubscription, Route, route

pytestmark = pytest.mark.slow

patterns = st.lists(
    st.sampled_from(["*", "order.*", "order.created", "user.created", "*.created"]), min_size=1, max_size=3
)
subscriptions = st.lists(st.tuples(patterns, st.none() | strategies.filters), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(subscriptions, st.sampled_from(["order.created", "order.paid", "user.created", ""]), strategies.data)
def test_any_of_them(drawn: list[tuple[list[str], dict[str, Any] | None]], topic: str, data: dict[str, Any]) -> None:
    seen = event(data, topic=topic)
    root = Document(seen).scope.root
    covering = [
        None if filter_ is None else parse(filter_).test
        for wanted, filter_ in drawn
        if any(topics.covers(pattern, topic) for pattern in wanted)
    ]
    taken = any(test is None or holds(test, root) for test in covering)

    any_of = AnySubscription(
        [(topics.matcher(wanted), None if filter_ is None else compile_filter(filter_)) for wanted, filter_ in drawn]
    )
    union = topics.union(pattern for wanted, _ in drawn for pattern in wanted)
    to = destination(topics=union)
    routing = route(seen, [Route.of(to, any_of)])

    assert routing.matched == ((to,) if taken else ())
    if not taken:
        (skip,) = routing.skipped
        assert skip.reason == ("filter" if covering else "topic")
        assert (skip.detail or "").count("Does not pass: ") == min(len(covering), 3)


def test_a_costly_subscription_does_not_stop_a_cheap_one() -> None:
    costly = compile_filter({"data": {"l": {"$or": [{"$gt": 5}] * 200}}})
    cheap = compile_filter({"data": {"n": 3}})
    seen = Document(event(data=b'{"n": 3, "l": [' + b",".join([b"1"] * 2_000) + b"]}"))
    other = Document(event(data=b'{"n": 4, "l": [' + b",".join([b"1"] * 2_000) + b"]}"))
    for parts in ([costly, costly, cheap], [cheap, costly, costly]):
        either = AnySubscription([(lambda _topic: True, part) for part in parts])
        seen.left = other.left = 100_000
        assert either.passes(seen)
        with pytest.raises(TooCostly):
            either.passes(other)
        assert other.left >= 0
