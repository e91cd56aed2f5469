"""An event as filters see it: `{id, topic, time, metadata, data}`, decoded once however many filters look at it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

import msgspec

from waypost.core import times
from waypost.core.filters.ast import CURRENT
from waypost.core.filters.limits import DEFAULT_LIMITS
from waypost.core.filters.values import MISSING, Number, toll
from waypost.core.model import Event


class TooCostly(Exception):  # an answer of its own beside "passes" and "does not pass"
    """A filter needs more steps for this event than it was given."""


class Document:
    """One event for any number of filters. Its data is decoded when a filter first looks, and only then.

    `left` are the steps that are left of all filters' common budget.
    """

    def __init__(
        self, event: Event, steps: int = DEFAULT_LIMITS.max_steps, most_values: int = DEFAULT_LIMITS.max_data_values
    ) -> None:
        self._event = event
        self._most_values = most_values
        self._steps = steps
        self.left = steps

    @property
    def topic(self) -> str:
        return self._event.topic

    @property
    def too_costly(self) -> str:
        """A sentence for a filter that needs more than it can get."""
        if self.scope.too_large:
            return f"Not decided: {self.scope.trouble}, and filters read no more."
        return f"Not decided: this takes more work than is left of the {self._steps} steps for all filters."

    @cached_property
    def scope(self) -> Scope:
        return _decoded(self._event, self._most_values)


class Scope:
    """What a match needs beside the value at hand.

    `root` is the document; `trouble` the sentence that says why its data cannot be read, `too_large` whether that is
    its size; `indexes` the positions in the lists being looked through, outermost first; `steps` what may still be
    spent.
    """

    __slots__ = ("_members", "indexes", "root", "steps", "too_large", "trouble")

    def __init__(self, root: dict[str, Any], trouble: str | None = None, *, too_large: bool = False) -> None:
        self.root = root
        self.trouble = trouble
        self.too_large = too_large
        self.indexes: tuple[int, ...] = ()
        self.steps = 0
        self._members: dict[int, frozenset[Hashable]] = {}

    def spend(self, steps: int) -> None:
        """Account for work that is about to be done. Raises TooCostly."""
        self.steps -= steps
        if self.steps < 0:
            self.steps = 0
            raise TooCostly

    def at(self, path: tuple[str | int, ...]) -> Any:
        """What a reference leads to, MISSING when nothing is there."""
        value: Any = self.root
        lists = iter(self.indexes)
        for step in path:
            if isinstance(step, str):
                value = value.get(step, MISSING) if type(value) is dict else MISSING
            else:
                index = next(lists, -1) if step == CURRENT else step
                value = value[index] if type(value) is list and 0 <= index < len(value) else MISSING
        return value

    def members(self, values: list[Any]) -> frozenset[Hashable]:
        """The keys of the scalars in one of the document's lists, collected once for the event."""
        known = self._members.get(id(values))
        if known is None:
            self.spend(len(values))
            known = self._members[id(values)] = frozenset(
                self.key(value) for value in values if type(value) not in (dict, list)
            )
        return known

    def key(self, scalar: Any) -> Hashable:
        """Equal for scalars that are equal in JSON: 1 and 1.0, but not 1 and True.

        Of numbers it is a text: their own hashes are no secret, and data could be made of numbers that share one.
        """
        if type(scalar) is str:
            return scalar
        if type(scalar) is int or type(scalar) is Decimal:
            self.spend(5 + toll(scalar))
            return ("number", _numeral(scalar))
        return (type(scalar), scalar)


def _numeral(number: Number) -> tuple[str, str]:
    """The same for the same number, without loss."""
    digits, _, exponent = f"{Decimal(number):e}".partition("e")
    return (digits.rstrip("0").rstrip("."), exponent) if number else ("", "")


def _decoded(event: Event, most_values: int) -> Scope:
    root: dict[str, Any] = {
        "id": event.id,
        "topic": event.topic,
        "time": times.render(event.time),
        "metadata": event.metadata or {},
    }
    if len(event.data) > most_values and _values_at_most(event.data) > most_values:
        return Scope(root, f"the event's data may hold more than {most_values} values", too_large=True)
    try:
        root["data"] = decode(event.data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Scope(root, f"the event's data cannot be read as JSON: {error}")
    return Scope(root)


def decode(data: bytes) -> Any:
    """The JSON with its numbers exact, integers of more than 4,300 digits and all others as decimal numbers.

    Raises msgspec.DecodeError, ValueError or RecursionError.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.ValidationError, InvalidOperation):
        return _PATIENT_DECODER.decode(_with_exponents(data))


def _with_exponents(data: bytes) -> bytes:
    """The JSON with an exponent behind integers that are too long for Python to read as such."""
    unescaped = data.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    parts, at, quotes = [], 0, 0
    for found in _LONG_INTEGER.finditer(data):
        quotes += unescaped.count(b'"', at, found.end())
        parts += [data[at : found.end()], b"" if quotes % 2 else b"e0"]
        at = found.end()
    return b"".join((*parts, data[at:]))


def _values_at_most(data: bytes) -> int:
    """A bound on the number of values in the JSON, without reading it."""
    return 1 + data.count(b",") + data.count(b"[") + data.count(b"{")


def _number(text: str) -> Decimal | str:
    """A number in any length; beyond the exponents that Decimal knows (10^18) it is seen as its text."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_PATIENT_DECODER = msgspec.json.Decoder(float_hook=_number)
_LONG_INTEGER = re.compile(rb"(?<![0-9.+eE])(?<![eE]-)[0-9]{4000,}+(?![.eE])")
