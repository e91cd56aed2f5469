"""Numbers, operands and paths."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core.filters import paths
from waypost.core.filters.ast import CURRENT
from waypost.core.filters.compile import fits
from waypost.core.filters.errors import FilterError, written
from waypost.core.filters.values import frozen, json_number_in, number_in, same, thawed

from . import strategies


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("-5.50", "-5.5"), ("+1", 1), (".5", "0.5"), ("5.", 5), ("007", 7), ("1E3", 1000), ("1e-2", "0.01")],
)
def test_numeric_text(text: str, number: int | str) -> None:
    assert number_in(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1_000",
        "0x1f",
        "NaN",
        "Infinity",
        "-",
        ".",
        "1e",
        "e5",
        "1,5",
        "٣",
        "1\n",
        "1e99999999999999999999",
    ],
)
def test_text_that_is_no_number(text: str) -> None:
    assert number_in(text) is None


@pytest.mark.parametrize(
    ("text", "is_one"), [("0", True), ("-0.5e+3", True), ("01", False), ("+1", False), (".5", False), ("5.", False)]
)
def test_numbers_as_json_writes_them(text: str, is_one: bool) -> None:
    assert (json_number_in(text) is not None) is is_one


@given(strategies.values)
def test_operands_thaw_to_what_they_were(value: Any) -> None:
    assert same(thaw_exactly(value), thaw_exactly(thawed(frozen(value))))


def thaw_exactly(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: thaw_exactly(member) for key, member in value.items()}
    if isinstance(value, list):
        return [thaw_exactly(member) for member in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_decimal_that_it_prints_as(number: float) -> None:
    assert frozen(number) == Decimal(repr(number))
    assert thawed(frozen(number)) == number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), object(), b"x", {"a": [{1, 2}]}])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON|no text"):
        frozen(value)


def test_types_count_in_deep_equality() -> None:
    assert same({"a": [1, Decimal("2.0")]}, {"a": [Decimal(1), 2]})
    assert not same([1], [True])
    assert not same([0], [False])
    assert not same(["1"], [1])
    assert not same([], {})
    assert not same({"a": None}, {"b": None})


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("$.a.b", ("a", "b")),
        ("a[0][12].b", ("a", 0, 12, "b")),
        ("a[$index].b", ("a", CURRENT, "b")),
        ("$['odd key'][\"it's\"]", ("odd key", "it's")),
        ("['a.b']", ("a.b",)),
        ("$price", ("$price",)),
    ],
)
def test_references(text: str, path: tuple[str | int, ...]) -> None:
    assert paths.reference(text).path == path
    assert paths.reference(paths.written(path)).path == path


@pytest.mark.parametrize("text", ["", "$", ".", "a.", "a..b", "a[", "a[x]", "a[-1]", "a b", "a['x]", "a[0]b"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        paths.reference(text)


@pytest.mark.parametrize(
    ("parts", "text", "does"),
    [
        (("a",), "a", True),
        (("a",), "ab", False),
        (("", ""), "", True),
        (("a", "b"), "ab", True),
        (("ab", "ba"), "aba", False),
        (("", "x", ""), "axb", True),
        (("", "x", "x", ""), "x", False),
        (("a", "b", "c"), "abc", True),
        (("a", "c", "b", ""), "abc", False),
    ],
)
def test_wildcards(parts: tuple[str, ...], text: str, does: bool) -> None:
    assert fits(text, parts) is does


def test_pointers_are_written_as_rfc_6901_says() -> None:
    assert written(()) == ""
    assert written(("a/b", "m~n", 0, "")) == "/a~1b/m~0n/0/"
    assert str(FilterError("it is wrong", pointer=("query",), position=4)) == "it is wrong (at /query, character 5)"
    assert str(FilterError("it is wrong")) == "it is wrong"
