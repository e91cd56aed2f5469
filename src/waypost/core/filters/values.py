"""JSON values as filters see them: exact numbers, frozen operands, and what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, TypeGuard

from msgspec import Struct

Number = int | Decimal
Scalar = str | int | Decimal | bool | None


class Missing(Enum):
    """The type of what a path finds where there is nothing."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class JsonObject(Struct, frozen=True):
    """A JSON object as a frozen operand, its members in the order they were written."""

    members: tuple[tuple[str, Json], ...]


Json = Scalar | tuple["Json", ...] | JsonObject
"""A frozen JSON value: the operands of conditions. An array is a tuple."""

NUMBERS: Final = frozenset((int, Decimal))
"""The types of JSON numbers. Compare `type(value)`: a bool is an int by inheritance and no number in JSON."""

_NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_NEEDS_NO_ESCAPE = re.compile(r"[\w .,:;@/+*$€%!?()<>=…-]*")
_SHOWN = 60

NUMERAL_MAX_LENGTH = 1_000
"""Longer text is never read as a number, so that comparing it costs nothing."""


def is_number(value: object) -> TypeGuard[Number]:
    return type(value) in NUMBERS


def is_scalar(value: object) -> TypeGuard[Scalar]:
    return value is None or type(value) in (str, int, Decimal, bool)


def number_in(text: str) -> Decimal | None:
    """The number that the text writes in decimal, exactly, or None when it is not one.

    Text of more than NUMERAL_MAX_LENGTH characters is none.

    >>> number_in("29.90"), number_in("-.5"), number_in("0x10"), number_in("")
    (Decimal('29.90'), Decimal('-0.5'), None, None)
    """
    return _decimal(text) if len(text) <= NUMERAL_MAX_LENGTH and _NUMBER_TEXT.fullmatch(text) else None


def json_number_in(text: str) -> Decimal | None:
    """The number when the text is written as JSON writes numbers (RFC 8259, section 6), else None."""
    return _decimal(text) if len(text) <= NUMERAL_MAX_LENGTH and _JSON_NUMBER.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def is_plain(value: Scalar) -> bool:
    """Whether equality with the value is the same with and without a look at its type."""
    return number_in(value) is None if isinstance(value, str) else not is_number(value)


def frozen(value: object) -> Json:
    """The value as an operand. A float becomes the decimal number that it prints as.

    Raises ValueError for what JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return JsonObject(tuple((str(key), frozen(member)) for key, member in value.items()))
    if isinstance(value, list | tuple):
        return tuple(frozen(member) for member in value)
    return frozen_scalar(value)


def frozen_scalar(value: object) -> Scalar:
    """Like `frozen`, for a text, number, boolean or null only."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("JSON has no infinity and no NaN")
    if not is_scalar(value):
        raise ValueError(f"a {type(value).__name__} is no text, number, boolean or null")
    return value


def thawed(value: Json) -> Any:
    """The operand as plain JSON data. A decimal number becomes a float where that loses nothing."""
    if isinstance(value, JsonObject):
        return {key: thawed(member) for key, member in value.members}
    if isinstance(value, tuple):
        return [thawed(member) for member in value]
    return plain(value) if isinstance(value, Decimal) else value


def plain(number: Decimal) -> float | Decimal:
    """The number as a float where that loses nothing."""
    return float(number) if Decimal(repr(float(number))) == number else number


def data_of(value: Json) -> object:
    """The operand with the containers that a decoded document has, its numbers untouched."""
    if isinstance(value, JsonObject):
        return {key: data_of(member) for key, member in value.members}
    if isinstance(value, tuple):
        return [data_of(member) for member in value]
    return value


def _for_nothing(_steps: int) -> None:
    """Spend nothing."""


def same(one: object, other: object, spend: Callable[[int], None] = _for_nothing) -> bool:
    """Deep equality of decoded JSON. Numbers are equal by value, key order is of no account, types must agree.

    Works with a stack of its own: documents may be nested as deeply as the decoder allows. `spend` hears what the pairs
    cost before they are compared.
    """
    pending = [(one, other)]
    while pending:
        left, right = pending.pop()
        spend(_pair(left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            pending.extend((member, right[key]) for key, member in left.items())
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pending.extend(zip(left, right, strict=True))
        elif not same_scalar(left, right):
            return False
    return True


def _pair(left: object, right: object) -> int:
    """The steps of comparing two values of a document, not counting what is in them."""
    if isinstance(left, str) and isinstance(right, str):
        return 2 + (len(left) >> 10)
    if isinstance(left, dict | list) and isinstance(right, dict | list):
        return 5 + 2 * min(len(left), len(right))
    return 5 + (toll(left) + toll(right)) // 4 if is_number(left) and is_number(right) else 2


def toll(number: Number) -> int:
    """The steps that it takes to write a number out, or to compare an integer with a decimal number."""
    return (number.bit_length() >> 6) ** 2 >> 4 if isinstance(number, int) else number.__sizeof__() >> 4


def same_scalar(one: object, other: object) -> bool:
    """Equality of scalars with their types: 1 is 1.0, but neither True nor "1"."""
    if is_number(one):
        return is_number(other) and one == other
    return type(one) is type(other) and is_scalar(one) and one == other


def shown(value: object) -> str:
    """The value as a person reads it in a sentence; long ones are cut."""
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
        return f'"{text}"' if text.isalnum() or _NEEDS_NO_ESCAPE.fullmatch(text) else json.dumps(text)
    if isinstance(value, dict | JsonObject):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if is_number(value):
        return _shown_number(value)
    return "nothing"


def _shown_number(number: Number) -> str:
    if isinstance(number, int) and number.bit_length() > 4 * _SHOWN:
        number = Decimal(number)
    text = str(number)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
