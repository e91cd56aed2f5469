"""Hookdeck JSON against the library that Hookdeck's own filters run on, and every difference that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from waypost.core.filters import FilterError, compile_filter

from .documents import document
from .generators import Generator
from .oracles import simple_json_match

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("simple-json-match")]


class Difference(NamedTuple):
    """Where Waypost departs on purpose: an example with both answers, and which filters and inputs it can concern."""

    what: str
    schema: dict[str, Any]
    input: dict[str, Any]
    theirs: bool
    ours: bool
    concerns: Callable[[Any, Any], bool] = lambda _schema, _input: False


def parts(value: Any) -> Iterator[Any]:
    """The value and everything within it."""
    yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(member)


def uses(*keys: str) -> Callable[[Any, Any], bool]:
    return lambda schema, _input: any(key in part for part in parts(schema) if isinstance(part, dict) for key in keys)


def has_list(_schema: Any, value: Any) -> bool:
    return any(isinstance(part, list) for part in parts(value))


def with_something_beside(*keys: str) -> Callable[[Any, Any], bool]:
    return lambda schema, _input: any(
        len(part) > 1 and any(key in part for key in keys) for part in parts(schema) if isinstance(part, dict)
    )


def both(*conditions: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda schema, value: all(condition(schema, value) for condition in conditions)


OPERATORS = ("$eq", "$gt", "$gte", "$lt", "$lte", "$in", "$startsWith", "$endsWith")
NEGATIONS = ("$neq", "$nin")

INTENDED_DIFFERENCES = [
    Difference(
        "operators look at the elements of a list",
        {"a": {"$gt": 10}}, {"a": [1, 20]}, False, True, both(uses(*OPERATORS, *NEGATIONS), has_list),
    ),
    Difference("so does equality", {"a": {"$eq": "x"}}, {"a": ["x", "y"]}, False, True),
    Difference(
        "a negated operator speaks of the whole list",
        {"a": {"$neq": 1}}, {"a": [1, 20]}, True, False, both(uses(*NEGATIONS), has_list),
    ),
    Difference("$not works at a scalar field", {"a": {"$not": 1}}, {"a": 2}, False, True, uses("$not")),
    Difference("and denies", {"a": {"$exist": True, "$not": 2}}, {"a": 2}, True, False, uses("$not")),
    Difference("$neq holds for a missing field", {"a": {"$neq": 1}}, {}, False, True, uses("$neq")),
    Difference("$nin holds for a missing field", {"a": {"$nin": [1]}}, {}, False, True, uses("$nin")),
    Difference("$nin holds for a value that has no text to search", {"a": {"$nin": "x"}}, {"a": 1}, False, True),
    Difference(
        "$exist: false holds below a missing field",
        {"a": {"b": {"$exist": False}}}, {}, False, True, uses("$exist"),
    ),
    Difference(
        "conditions beside a nested $or count",
        {"a": {"$or": [1, 2], "$gt": 1}}, {"a": 1}, True, False, with_something_beside("$or"),
    ),
    Difference(
        "conditions beside $ref count",
        {"a": {"$ref": "b", "$gt": 1}}, {"a": 1, "b": 1}, True, False, with_something_beside("$ref"),
    ),
    Difference("$and works at a scalar field", {"a": {"$and": [1, {"$gt": 0}]}}, {"a": 1}, False, True, uses("$and")),
    Difference(
        "$and beside operators counts",
        {"a": {"$gt": 0, "$and": [2]}}, {"a": 1}, True, False, with_something_beside("$and"),
    ),
    Difference(
        "$and at a list may be met by different elements", {"a": {"$and": [1, 2]}}, {"a": [1, 2]}, False, True
    ),
    Difference(
        "$or at a list is about the list", {"a": {"$or": [9, []]}}, {"a": []}, False, True, both(uses("$or"), has_list)
    ),
    Difference(
        "fields beside operators count", {"a": {"$exist": True, "b": 1}}, {"a": {"b": 2}}, True, False,
        with_something_beside("$exist"),
    ),
    Difference("$eq ignores key order", {"a": {"$eq": {"b": 1, "c": 2}}}, {"a": {"c": 2, "b": 1}}, False, True),
    Difference("$eq does not compare with JSON text", {"a": {"$eq": {"b": 1}}}, {"a": '{"b":1}'}, True, False),
    Difference("a list matches lists only", {"a": []}, {"a": {"b": 1}}, True, False,
               lambda schema, _input: any(isinstance(part, list) for part in parts(schema))),
    Difference("a missing reference equals nothing", {"a": {"$ref": "b"}}, {"a": None}, True, False),
    Difference("true is no number", {"a": True}, {"a": 1}, True, False),
    Difference("empty text is no number", {"a": 0}, {"a": ""}, True, False),
    Difference("text with spaces is no number", {"a": 5}, {"a": " 5 "}, True, False),
    Difference("hexadecimal text is no number", {"a": 16}, {"a": "0x10"}, True, False),
    Difference("big integers are exact", {"a": 2**53}, {"a": 2**53 + 1}, True, False),
    Difference(
        "decimals are exact", {"a": {"$gte": Decimal("0.3")}}, {"a": Decimal("0.29999999999999999")}, True, False
    ),
    Difference("$in looks for booleans and null too", {"a": {"$in": [True, None]}}, {"a": True}, False, True),
]  # fmt: skip


def test_the_intended_differences_are_there() -> None:
    theirs = simple_json_match([(difference.schema, difference.input) for difference in INTENDED_DIFFERENCES])
    for difference, answer in zip(INTENDED_DIFFERENCES, theirs, strict=True):
        assert answer is difference.theirs, difference.what
        assert passes(difference.schema, difference.input) is difference.ours, difference.what


def test_generated_filters_and_inputs_get_the_same_answers_but_for_the_intended_differences() -> None:
    generator = Generator(seed=5, numbers=(0, 1, Decimal("2.5"), 9, 10, -1, "1", "1.0", "10", "9"))
    inputs = [generator.object() for _ in range(5_000)]
    questions = [(generator.object_schema(value), value) for value in inputs if value]
    theirs = simple_json_match(questions)
    unexplained = []
    agreed = {True: 0, False: 0}
    for (schema, value), answer in zip(questions, theirs, strict=True):
        mine = passes(schema, value)
        if mine is answer:
            agreed[answer] += 1
        elif not any(
            (difference.theirs, difference.ours) == (answer, mine) and difference.concerns(schema, value)
            for difference in INTENDED_DIFFERENCES
        ):
            unexplained.append((schema, value, answer))
    assert unexplained == []
    assert min(agreed.values()) > len(questions) / 4
    assert sum(agreed.values()) > len(questions) * 0.9


def test_inputs_without_lists_get_the_same_answers_from_filters_without_negations() -> None:
    """Most of the language has no difference at all: nothing is excused here."""
    generator = Generator(seed=6, numbers=(0, 1, Decimal("2.5"), 9, 10, -1, None, "1", "1.0", "10", "9"))
    questions = [
        (schema, value)
        for value in (generator.object() for _ in range(8_000))
        if value and not has_list({}, value)
        for schema in [generator.object_schema(value)]
        if not uses("$not", "$neq", "$nin", "$exist", "$or", "$and", "$ref")(schema, value)
        and not any(isinstance(part, list) for name, part in _fields(schema) if not name.startswith("$"))
    ]
    assert len(questions) > 800
    theirs = simple_json_match(questions)
    assert sum(theirs) > 200
    assert [
        (schema, value, answer)
        for (schema, value), answer in zip(questions, theirs, strict=True)
        if passes(schema, value) is not answer
    ] == []


def test_unknown_operators_never_match_there_and_are_refused_here() -> None:
    assert simple_json_match([({"a": {"$gtt": 1}}, {"a": 2})]) == [False]
    with pytest.raises(FilterError, match=r"\$gtt is no operator"):
        passes({"a": {"$gtt": 1}}, {"a": 2})


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    for part in parts(schema):
        if isinstance(part, dict):
            yield from part.items()


def passes(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    return compile_filter({"data": _from_the_payload(schema)}).passes(document(value))


def _from_the_payload(schema: Any) -> Any:
    """References start at the event in Waypost, and at the input there."""
    if isinstance(schema, dict):
        return {key: "data." + part if key == "$ref" else _from_the_payload(part) for key, part in schema.items()}
    return [_from_the_payload(part) for part in schema] if isinstance(schema, list) else schema
