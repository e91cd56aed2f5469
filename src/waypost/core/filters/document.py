"""An event as filters see it: `{id, topic, time, metadata, data}`, decoded once however many filters look at it."""

from __future__ import annotations

import json
from collections.abc import Hashable
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, NoReturn

import msgspec

from waypost.core import times
from waypost.core.filters.ast import CURRENT
from waypost.core.filters.values import MISSING
from waypost.core.model import Event

_DECODER = msgspec.json.Decoder(float_hook=Decimal)


class TooMuchWork(Exception):  # a condition of one match that never leaves the compiled filter
    """The match visited more list elements than its limit allows."""


class Document:
    """One event for any number of filters. Its data is decoded when a filter first looks, and only then."""

    def __init__(self, event: Event) -> None:
        self._event = event

    @property
    def topic(self) -> str:
        return self._event.topic

    @cached_property
    def scope(self) -> Scope:
        return Scope(*_decoded(self._event))


class Scope:
    """What a match needs beside the value at hand.

    `root` is the document; `trouble` the sentence that says why its data cannot be read; `indexes` the positions in the
    lists being looked through, outermost first; `steps` the list elements that may still be visited.
    """

    __slots__ = ("_members", "indexes", "root", "steps", "trouble")

    def __init__(self, root: dict[str, Any], trouble: str | None = None) -> None:
        self.root = root
        self.trouble = trouble
        self.indexes: tuple[int, ...] = ()
        self.steps = 0
        self._members: dict[int, frozenset[Hashable]] = {}

    def spend(self, steps: int) -> None:
        """Account for list elements about to be visited. Raises TooMuchWork."""
        self.steps -= steps
        if self.steps < 0:
            raise TooMuchWork

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
        """The scalars of one of the document's lists with their types, collected once for the whole match."""
        known = self._members.get(id(values))
        if known is None:
            self.spend(len(values))
            known = self._members[id(values)] = frozenset(typed(v) for v in values if type(v) not in (dict, list))
        return known


def typed(scalar: Any) -> Hashable:
    """A key under which scalars are equal when they are equal in JSON: 1 and 1.0, but not 1 and True."""
    return ("boolean", scalar) if type(scalar) is bool else scalar


def _decoded(event: Event) -> tuple[dict[str, Any], str | None]:
    root: dict[str, Any] = {
        "id": event.id,
        "topic": event.topic,
        "time": times.render(event.time),
        "metadata": event.metadata or {},
    }
    try:
        root["data"] = decode(event.data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return root, f"the event's data cannot be read as JSON: {error}"
    return root, None


def decode(data: bytes) -> Any:
    """The JSON with its numbers exact: integers of any length, all others as decimal numbers.

    Raises msgspec.DecodeError, ValueError or RecursionError.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.ValidationError, InvalidOperation):
        return json.loads(data, parse_int=_number, parse_float=_number, parse_constant=_no_number)


def _number(text: str) -> Decimal | str:
    """A number in any length; beyond the exponents that Decimal knows (10^18) it is seen as its text."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
