from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core import topics

names = st.text("ab.", max_size=8)
patterns = st.text("ab.*", max_size=8)


def slowly(pattern: str, topic: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), topic, re.DOTALL) is not None


@given(patterns, names)
def test_covers_what_the_pattern_says(pattern: str, topic: str) -> None:
    assert topics.covers(pattern, topic) == slowly(pattern, topic)


@given(st.lists(patterns, max_size=4), names)
def test_a_matcher_is_any_of_its_patterns(subscription: list[str], topic: str) -> None:
    assert topics.matcher(subscription)(topic) == any(slowly(pattern, topic) for pattern in subscription)


@given(st.lists(patterns, max_size=4), st.lists(patterns, max_size=4), names)
def test_a_union_covers_what_either_covers(one: list[str], other: list[str], topic: str) -> None:
    either = topics.matcher(one)(topic) or topics.matcher(other)(topic)
    assert topics.matcher(topics.union([*one, *other]))(topic) == either


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("user.*", "user.created", True),
        ("user.*", "user.", True),
        ("user.*", "users.created", False),
        ("*.created", "order.item.created", True),
        ("a*b*a", "aba", True),
        ("a*a", "a", False),
        ("ab*ba", "aba", False),
        ("*", "", True),
        ("order.created", "order.created.late", False),
    ],
)
def test_examples(pattern: str, topic: str, expected: bool) -> None:
    assert topics.covers(pattern, topic) is expected


@pytest.mark.parametrize("bad", ["", "a b", "a\n", "ü", "a" * 256, "a*"])
def test_what_is_no_topic(bad: str) -> None:
    assert not topics.is_topic(bad)


def test_what_is_a_topic_and_a_pattern() -> None:
    assert topics.is_topic("Order_v1:item/created-2.x")
    assert topics.is_pattern("order.*")
    assert not topics.is_pattern("order.?")


def test_unknown_names_the_patterns_that_nothing_satisfies() -> None:
    assert topics.unknown(["user.*", "*", "order.created", "x.*"], ["user.created"]) == ["order.created", "x.*"]
    assert topics.unknown(["anything"], []) == []
