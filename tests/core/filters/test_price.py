"""What a match does is paid for: counted calls of functions are compared with the steps that were spent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waypost.core.filters import CompiledFilter, TooCostly, compile_filter, normalise
from waypost.core.filters.price import scanning

from . import strategies
from .documents import document
from .interpreter import holds

BUDGET = 20_000


def calls_of(action: Callable[[], object]) -> int:
    """How many calls of functions an action makes, those written in C included."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def wide(value: Any, times: int) -> Any:
    """The value with its lists so many times as long."""
    if isinstance(value, dict):
        return {key: wide(member, times) for key, member in value.items()}
    return [wide(member, 1) for member in value] * times if isinstance(value, list) else value


def answer(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except TooCostly:
        return TooCostly


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(strategies.filters, strategies.data, st.sampled_from([1, 50, 2_000]))
def test_calls_are_paid_for(filter_: dict[str, Any], data: dict[str, Any], times: int) -> None:
    compiled = compile_filter(filter_)
    seen = document(wide(data, times), steps=BUDGET)
    root = seen.scope.root
    found: list[object] = []
    calls = calls_of(lambda: found.append(answer(lambda: compiled.passes(seen))))
    spent = BUDGET - seen.left
    assert calls <= 10 * spent + 60
    if found != [TooCostly] and times <= 50:
        assert found == [holds(compiled.parsed.test, root)]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(strategies.filters, strategies.data, st.sampled_from([1, 50, 2_000]))
def test_explanations_are_paid_for(filter_: dict[str, Any], data: dict[str, Any], times: int) -> None:
    compiled = compile_filter(filter_)
    compiled.explain(document({}))
    seen = document(wide(data, times), steps=BUDGET)
    assert seen.scope.root
    calls = calls_of(lambda: compiled.explain(seen))
    assert calls <= 10 * (BUDGET - seen.left) + 200


# --- what the data decides --------------------------------------------------------------------------------------------

LONG = "9" * 200_000
HALF = Decimal("0.5")


def twice(value: Any) -> dict[str, Any]:
    return {"a": value, "b": value}


def spent(filter_: Any, data: Any) -> int:
    seen = document(data, steps=10**9)
    made = compile_filter(normalise(filter_))
    assert isinstance(made.passes(seen), bool)
    return 10**9 - seen.left


@pytest.mark.parametrize(
    ("filter_", "small", "large", "times"),
    [
        ({"data": {"a": {"$contains": "xyz"}}}, {"a": "-" * 2_000}, {"a": "-" * 20_000}, 9),
        ({"data": {"a": {"$contains": "x" * 90}}}, {"a": "x" * 80 + "-" * 900}, {"a": "-" * 9_000}, 9),
        ({"data": {"a": {"$regex": "x[ab]{9}y"}}}, {"a": "-" * 2_000}, {"a": "-" * 20_000}, 9),
        ({"data": {"a": {"$in": {"$ref": "data.b"}}}}, {"a": 1, "b": [2] * 100}, {"a": 1, "b": [2] * 1_000}, 9),
        ({"data": {"a": {"$in": {"$ref": "data.b"}}}}, {"a": "x", "b": "y" * 90}, {"a": "x" * 900, "b": "y" * 90}, 5),
        ({"data": {"a": {"$ref": "data.b"}}}, twice("x" * 9_999), twice("x" * 99_999), 5),
        ({"data": {"a": {"$eq": {"$ref": "data.b"}}}}, twice({"c": [1] * 99}), twice({"c": [1] * 999}), 8),
        ({"data": {"a": {"$gt": 5}}}, {"a": "7"}, {"a": "7" * 1_000}, 5),
        ({"data": {"a": {"$gt": {"$ref": "data.b"}}}}, {"a": HALF, "b": 5}, {"a": HALF, "b": 10**4_000}, 50),
        ({"data": {"a": {"$in": {"$ref": "data.b"}}}}, {"a": 1, "b": [5]}, {"a": 1, "b": [10**4_000]}, 50),
        ({"data": {"a": {"$startsWith": {"$ref": "data.b"}}}}, {"a": "x", "b": "x"}, {"a": "x", "b": "x" * 99_999}, 5),
        ({"data": {"a": {"$in": [1, Decimal("2.5")]}}}, {"a": Decimal("1.5")}, {"a": Decimal("1E+900000")}, 5),
    ],
)  # fmt: skip
def test_the_price_grows_with_the_data(filter_: Any, small: Any, large: Any, times: int) -> None:
    assert spent(filter_, large) >= times * spent(filter_, small)


def test_long_numbers_are_compared_in_few_steps_and_exactly() -> None:
    assert spent({"data": {"$or": [{"a": {"$gt": Decimal("9.5")}}] * 20}}, f'{{"a":{LONG}}}'.encode()) < 500
    for text, passes in ((LONG, True), (f"-{LONG}", False), (f"{LONG}.5", True), (f"1e-{LONG[:6]}", False)):
        seen = document(f'{{"a":{text},"b":"{LONG},{LONG}","c":"\\\\\\"{LONG}"}}'.encode())
        assert compile_filter({"data": {"a": {"$gt": Decimal("9.5")}}}).passes(seen) is passes
        assert seen.scope.root["data"]["b"] == f"{LONG},{LONG}"
        assert seen.scope.root["data"]["c"] == f'\\"{LONG}'


@pytest.mark.parametrize("operator", ["$gt", "$gte", "$lt", "$lte", "$eq", "$in"])
@given(
    st.integers(-(10**6), 10**6) | st.sampled_from([10**300, -(10**300), 2**64]),
    st.decimals(-(10**6), 10**6, places=2)
    | st.sampled_from(list(map(Decimal, ["1E+9000000", "-1E+99999", "1E-999", "0E+99999"]))),
)
def test_integers_and_decimals_are_compared_by_value(operator: str, value: int, operand: Decimal) -> None:
    expected = {
        "$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand,
        "$eq": value == operand, "$in": value == operand,
    }[operator]  # fmt: skip
    filter_ = compile_filter({"data": {"a": {operator: [operand] if operator == "$in" else operand}}})
    assert filter_.passes(document({"a": value})) is expected


def test_numbers_of_one_hash_are_no_trap() -> None:
    """Python's hash of an integer is its remainder by 2^61 - 1: a set of such numbers would take quadratic time."""
    same_hash = [1 + number * (2**61 - 1) for number in range(3_000)]
    assert len({hash(number) for number in same_hash}) == 1
    filter_ = compile_filter({"data": {"a": {"$in": {"$ref": "data.b"}}}})
    assert filter_.passes(document({"a": same_hash[-1], "b": same_hash}))
    in_filter = {"data": {"a": {"$in": same_hash[:400]}}}
    assert spent(in_filter, {"a": [1] * 100}) > 10 * spent({"data": {"a": {"$in": list(range(400))}}}, {"a": [1] * 100})


@given(st.integers(0, 10**6), st.integers(0, 10**4))
def test_scanning_has_a_price(text: int, part: int) -> None:
    assert 1 <= scanning(text, part) <= 1 + 100 * (text // 100 + 1) + (20 * text if text < 2_500 else 0)


# --- reading and compiling --------------------------------------------------------------------------------------------


def shopify(count: int, depth: int) -> dict[str, Any]:
    path = ".".join("abcdefghij"[:depth])
    return {"$dialect": "shopify", "query": " OR ".join(f"{path}:>{number}" for number in range(count))}


def eventbridge(count: int, depth: int) -> dict[str, Any]:
    leaf: Any = [{"prefix": f"{number:03}"} for number in range(count)]
    for name in "abcdefghij"[:depth]:
        leaf = {name: leaf}
    return {"$dialect": "eventbridge", "pattern": leaf}


def hookdeck(count: int, depth: int) -> dict[str, Any]:
    leaf: Any = {"$or": [{"$gt": number} for number in range(count)]}
    for name in "abcdefghij"[:depth]:
        leaf = {name: leaf}
    return dict(leaf)


@pytest.mark.parametrize("written", [shopify, eventbridge, hookdeck])
def test_compiling_is_linear(written: Callable[[int, int], dict[str, Any]]) -> None:
    def compiled(filter_: dict[str, Any]) -> CompiledFilter:
        return compile_filter(normalise(filter_))

    def calls(count: int, depth: int) -> int:
        return calls_of(lambda: compiled(written(count, depth)))

    calls(10, 2)
    assert calls(160, 4) < 2.4 * calls(80, 4)
    assert calls(80, 8) < 2.4 * calls(80, 4)
