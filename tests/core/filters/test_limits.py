"""A filter's bounds, and that no event makes one do unbounded work."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from waypost.core.filters import (
    CompiledFilter,
    Document,
    FilterError,
    FilterLimits,
    TooCostly,
    compile_filter,
    normalise,
    parse,
)

from .documents import document, event


def nested(depth: int, leaf: Any = 1) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


def refusal(filter_: Any, **limits: int) -> FilterError:
    with pytest.raises(FilterError) as caught:
        normalise(filter_, FilterLimits(**limits))
    return caught.value


@pytest.mark.parametrize("depth", [21, 100_000])
def test_depth(depth: int) -> None:
    assert "deeper than 20" in refusal(nested(depth)).sentence
    assert refusal(nested(depth)).pointer == "/a" * 21
    normalise(nested(20))


def test_depth_of_a_query() -> None:
    assert refusal("(" * 50 + "a:1" + ")" * 50).position == 20
    assert "more than 20 parts" in refusal(".".join("a" * 40) + ":1").sentence
    normalise("(" * 20 + "a:1" + ")" * 20)


def test_depth_of_negated_groups() -> None:
    assert "deeper" in refusal("-(" * 5_000 + "a:1" + ")" * 5_000).sentence


def test_values() -> None:
    assert "more than 1000 values" in refusal({"data": {"a": {"$in": list(range(1_000))}}}).sentence
    normalise({"data": {"a": {"$in": list(range(990))}}})


def test_characters() -> None:
    assert "longer than 16384" in refusal({"data": {"a": "x" * 17_000}}).sentence
    assert "longer than 16384" in refusal({"x" * 17_000: 1}).sentence
    query = refusal({"$dialect": "shopify", "query": "a:" + "x" * 17_000})
    assert "longer than 16384" in query.sentence
    assert query.pointer == "/query"


def test_cost() -> None:
    assert "costs 1200, and 1000 is allowed" in refusal({"$or": [{"a": {"$regex": "x"}}] * 60}).sentence
    assert "costs 3" in refusal("a:1 b:1 c:1", max_cost=2).sentence
    normalise({"$or": [{"a": {"$regex": "x"}}] * 50})


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a" * 513, "longer than 512 characters"),
        (r"(\pL{500}){1,2}", "not usable"),
        ("((a{1000}){1000})", "not usable"),
        ("(x{900}|y{900}|z{900}|\\pL{900}){2}", "not usable"),
    ],
)
def test_regular_expressions(pattern: str, says: str) -> None:
    error = refusal({"data": {"a": {"$regex": pattern}}})
    assert error.pointer == "/data/a/$regex"
    assert says in error.sentence


def test_alternatives_multiply() -> None:
    choice = [{"a": [1]}, {"b": [1]}]
    pattern: dict[str, Any] = {"$or": choice}
    for name in "cdefghij":
        pattern = {name: pattern, "$or": [{f"{name}1": [1]}, {f"{name}2": [1]}]}
    error = refusal({"$dialect": "eventbridge", "pattern": pattern})
    assert "more than 64" in error.sentence


def test_every_limit_can_be_raised() -> None:
    wide = FilterLimits(max_depth=40, max_values=5_000, max_characters=100_000, max_cost=10_000)
    parse(nested(30), wide)
    parse({"data": {"a": {"$in": list(range(3_000))}}}, wide)
    parse(normalise("(" * 30 + "a:" + "x" * 50_000 + ")" * 30, wide), wide)


# --- work -------------------------------------------------------------------------------------------------------------


def compiled(filter_: Any, **limits: int) -> CompiledFilter:
    return compile_filter(normalise(filter_), FilterLimits(**limits))


def spent(filter_: Any, data: Any, steps: int = 100_000) -> int:
    """The steps of one match, the result of which does not matter."""
    seen = document(data, steps=steps)
    with contextlib.suppress(TooCostly):
        compiled(filter_).passes(seen)
    return steps - seen.left


def test_an_event_with_too_long_lists_is_not_decided() -> None:
    few = compiled({"data": {"a": {"$not": {"$gt": 5}}}})
    assert few.passes(document({"a": [1] * 30}, steps=100))
    too_long = document({"a": [1] * 60}, steps=100)
    with pytest.raises(TooCostly):
        few.passes(too_long)
    assert few.explain(too_long) == "What decided takes too much work to say."


def test_filters_spend_the_steps_of_one_document() -> None:
    few = compiled({"data": {"a": 1}})
    seen = document({"a": [0] * 9 + [1]}, steps=100)
    assert few.passes(seen, 40)
    assert few.passes(seen, 40)
    assert 0 < seen.left < 60
    with pytest.raises(TooCostly):
        few.passes(seen, 5)


def test_what_runs_out_was_not_done() -> None:
    """A share is never overdrawn, however much the last piece of work would have cost."""
    seen = document({"a": "x" * 29_000}, steps=10_000)
    with pytest.raises(TooCostly):
        compiled({"data": {"a": {"$contains": "y" * 99}}}).passes(seen, 500)
    assert seen.left == 9_500


def test_the_conditions_on_an_element_multiply() -> None:
    def filter_(conditions: int) -> Any:
        return {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * conditions}}}}

    data = {"l": [{"k": 1}] * 100}
    assert spent(filter_(400), data) > 3 * spent(filter_(100), data) > 30_000
    assert spent(filter_(490), {"l": [{"k": 1}] * 20_000}) == 100_000


def test_membership_in_a_referenced_list_is_not_quadratic() -> None:
    """The list is collected once: its length is spent once, not once for each element that is looked for."""
    filter_ = {"data": {"a": {"$in": {"$ref": "data.b"}}}}
    one = spent(filter_, {"a": list(range(1_000)), "b": list(range(-1_000, 0))})
    twice = spent(filter_, {"a": list(range(2_000)), "b": list(range(-2_000, 0))})
    assert one < twice < 2.2 * one < 100_000


def test_the_default_steps_allow_for_a_large_event() -> None:
    seen = document({"items": [{"sku": number, "tags": ["x", "y"]} for number in range(4_000)]})
    assert compiled({"data": {"items": {"sku": 3_999, "tags": "y"}}}).passes(seen)


def test_data_of_too_many_values_is_not_read() -> None:
    seen = Document(event({"a": [[]] * 60, "b": 1}), most_values=100)
    with pytest.raises(TooCostly):
        compiled({"data": {"b": 1}}).passes(seen)
    assert "may hold more than 100 values" in compiled({"data": {"b": 1}}).explain(seen)
    assert compiled({"data": {"b": 1}}).passes(Document(event({"a": [[]] * 40, "b": 1}), most_values=100))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a|a?)+b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*x"])
def test_regular_expressions_that_ruin_backtracking_engines(pattern: str) -> None:
    assert not compiled({"data": {"a": {"$regex": pattern}}}).passes(document({"a": "a" * 20_000 + "!"}))


def test_a_large_regular_expression_on_a_long_text_is_not_run() -> None:
    """Even the linear engine takes its time when the pattern is large: text times pattern is bounded."""
    large = compiled({"data": {"a": {"$regex": "(a{0,30}){0,30}b"}}})
    assert large.passes(document({"a": "a" * 500 + "b"}))
    with pytest.raises(TooCostly):
        large.passes(document({"a": "a" * 100_000 + "b"}))


def test_a_wildcard_of_many_parts_on_a_long_text() -> None:
    pattern = {"$dialect": "eventbridge", "pattern": {"data": {"a": [{"wildcard": "*a" * 500 + "b"}]}}}
    assert not compiled(pattern).passes(document({"a": "a" * 200_000}))
    assert 100 < spent(pattern, {"a": "a" * 20_000}) < 0.5 * spent(pattern, {"a": "a" * 200_000})


def test_lists_nested_as_deeply_as_can_be_decoded() -> None:
    depth = 800
    seen = document(b'{"a":' + b"[" * depth + b"7" + b"]" * depth + b"}")
    assert compiled({"data": {"a": 7}}).passes(seen)
    assert compiled({"data": {"a": 7}}).explain(seen).endswith("equals 7.")
    assert not compiled({"data": {"a": {"$eq": {"$ref": "data.b"}}}}).passes(seen)


def test_deep_equality_of_deep_values() -> None:
    deep = b"[" * 800 + b"]" * 800
    seen = document(b'{"a":{"x":' + deep + b'},"b":{"x":' + deep + b"}}")
    assert compiled({"data": {"a": {"$ref": "data.b"}}}).passes(seen)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "cannot be read as JSON"),
        (b'{"a":', "cannot be read as JSON"),
        (b'{"a":NaN}', "cannot be read as JSON"),
        (b'{"a":1e99999999999999999999,"b":NaN}', "cannot be read as JSON"),
    ],
)
@pytest.mark.parametrize("filter_", [{}, {"data": {"a": {"$neq": 5}}}, {"$not": {"data": {"a": 1}}}])
def test_data_that_cannot_be_read_passes_no_filter(data: bytes, says: str, filter_: dict[str, Any]) -> None:
    seen = document(data)
    assert not compile_filter(filter_).passes(seen)
    assert says in compile_filter(filter_).explain(seen)


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (b'{"a":' + b"9" * 10_000 + b"}", True),
        (b'{"a":-' + b"9" * 10_000 + b"}", False),
        (b'{"a":1e400}', True),
        (b'{"a":1e999999999999999}', True),
        (b'{"a":1e-999999999999999}', False),
        (b'{"a":1e99999999999999999999}', False),
        (b'{"a":"' + b"9" * 1_000 + b'"}', True),
        (b'{"a":"' + b"9" * 1_001 + b'"}', False),
        (b'{"a":"1e999999999"}', True),
    ],
)
def test_numbers_of_any_size_have_an_order(data: bytes, passes: bool) -> None:
    seen = Document(event(data))
    assert compile_filter({"data": {"a": {"$gt": 10**300}}}).passes(seen) is passes
    compile_filter({"data": {"a": {"$gt": 10**300}}}).explain(seen)
    compile_filter({"data": {"a": {"$in": [1, 10**400]}}}).explain(seen)


def test_a_huge_number_as_operand() -> None:
    filter_ = {"data": {"a": json.loads("9" * 4_000)}}
    assert compile_filter(filter_).passes(document(b'{"a":' + b"9" * 4_000 + b"}"))
    assert len(compile_filter(filter_).explain(document({"a": 1}))) < 300
