"""EventBridge patterns against AWS's own matcher."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from waypost.core.filters import FilterError, compile_filter

from .documents import document
from .generators import Generator
from .oracles import event_ruler

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("event-ruler")]

INTENDED_DIFFERENCES: list[tuple[str, dict[str, Any], dict[str, Any], str, bool]] = [
    ("numbers have no bounds", {"a": [{"numeric": [">", 6_000_000_000]}]}, {"a": 7_000_000_000}, "refused", True),
    ("a number is no address", {"a": [{"cidr": "0.0.0.0/0"}]}, {"a": 9}, "true", False),
    ("a dotted key is a key", {"a.b": [1]}, {"a": {"b": 1}}, "true", False),
    ("anything-but takes null and booleans", {"a": [{"anything-but": [None, True]}]}, {"a": 1}, "refused", True),
    ("anything-but takes numbers beside texts", {"a": [{"anything-but": [1, "x"]}]}, {"a": 2}, "refused", True),
]
"""What differs, a pattern, an event, what event-ruler answers, and what Waypost answers."""


def test_the_intended_differences_are_there() -> None:
    answers = event_ruler([(pattern, event) for _, pattern, event, _, _ in INTENDED_DIFFERENCES])
    for (what, pattern, event, theirs, ours), answer in zip(INTENDED_DIFFERENCES, answers, strict=True):
        assert answer.startswith(theirs), what
        assert passes(pattern, event) is ours, what


def test_a_field_asked_twice_is_refused_where_event_ruler_drops_one() -> None:
    pattern = {"a": [1], "$or": [{"a": [2]}, {"d": [3]}]}
    assert event_ruler([(pattern, {"a": 2})]) == ["true"]
    with pytest.raises(FilterError, match="asked about twice"):
        passes(pattern, {"a": 2})


def test_generated_patterns_and_events_get_the_same_answers() -> None:
    generator = Generator(seed=4, numbers=(0, 1, Decimal("1.0"), Decimal("2.5"), 9, 10, -1, True, None, "1"))
    events = [generator.object() for _ in range(1_000)]
    questions = [(generator.pattern(event), event) for event in events]
    answers = event_ruler(questions)
    assert answers.count("true") > 150
    assert answers.count("false") > 150
    assert [
        (pattern, event, answer)
        for (pattern, event), answer in zip(questions, answers, strict=True)
        if answer != str(passes(pattern, event)).lower()
    ] == []


def passes(pattern: dict[str, Any], data: dict[str, Any]) -> bool:
    filter_ = {"$dialect": "eventbridge", "pattern": {"data": pattern}}
    return compile_filter(filter_).passes(document(data))
