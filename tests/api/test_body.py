"""Numbers of a body: exact, in bounds, and read in bounded work."""

from __future__ import annotations

import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.api.body import parse
from waypost.core.errors import Invalid

_digits = st.text("0123456789", min_size=1, max_size=20)
_numerals = st.builds(
    lambda sign, whole, part, exponent: f"{sign}{int(whole)}.{part}{exponent}",
    st.sampled_from(["", "-"]),
    _digits,
    _digits,
    st.one_of(st.just(""), st.integers(-330, 308).map(lambda number: f"e{number}")),
)


@given(_numerals)
def test_numbers_are_exact(text: str) -> None:
    try:
        value = parse(text.encode())
    except Invalid:
        assert abs(Decimal(text)) > Decimal("1e300")
        return
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    assert exact == Decimal(text)
    assert isinstance(value, float) == (Fraction(repr(float(text))) == Fraction(text))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1e999999}',
        b'{"a":-1e400}',
        b'{"a":1e-99999999999999999999999}',
        b"9" * 200_000,
        b"[" * 500_000 + b"]" * 500_000,
        b"[" + b",".join([b"1e-999"] * 20_000) + b"]",
        b'{"a":NaN}',
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="invalid JSON"):
        parse(body)


def calls_of(body: bytes) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        parse(body)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("number", [b"1.5", b"0.0", b"1e300", b"12345678.87654", b"2.5e-200"])
def test_ordinary_numbers_take_few_calls(number: bytes) -> None:
    few, many = (calls_of(b"[" + b",".join([number] * count) + b"]") for count in (10, 20_010))
    assert many - few <= 4 * 20_000


def test_a_long_number_is_exact() -> None:
    text = "0." + "9" * 100_000
    found: Any = parse(text.encode())
    assert found == Decimal(text)
