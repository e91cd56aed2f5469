"""JSON Schemas for the data of events: compiled once, asked for every event.

Draft 2020-12 unless `$schema` names another; formats are checked. Nothing is fetched, and patterns run in linear time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec

from waypost.core.errors import WaypostError
from waypost.core.filters.document import decode
from waypost.core.filters.errors import Pointer, written

MOST_FAULTS = 10
_LARGE = 16_384
"""Bytes. The library looks for all faults before it tells the first: 12 s for those of a megabyte."""

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20)
_MASK = "it"
"""Stands for values in the library's sentences, which would quote them whole."""


class Fault(NamedTuple):
    """What is wrong, and the JSON pointer (RFC 6901) to where."""

    pointer: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.sentence} (at {self.pointer})" if self.pointer else self.sentence


class SchemaError(WaypostError):
    """A schema that cannot be used; `fault` points into it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Schema:
    """A compiled schema. Raises SchemaError for one that is not valid, or that refers to what it does not contain."""

    def __init__(self, schema: Any) -> None:
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, pattern_options=_PATTERNS, mask=_MASK, validate_formats=True, offline=True
            )
        except jsonschema_rs.ValidationError as error:
            raise SchemaError(_fault_of(error, schema)) from None
        except ValueError as error:
            raise SchemaError(Fault("", _lowered(str(error)))) from None

    def faults(self, data: bytes) -> list[Fault]:
        """What is wrong with the JSON, at most `MOST_FAULTS` things, of large JSON one; nothing when it is valid."""
        try:
            value = decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return [Fault("", "it cannot be read as JSON")]
        return self.faults_of(value, few=len(data) > _LARGE)

    def faults_of(self, value: Any, *, few: bool = False) -> list[Fault]:
        """The same for JSON that has been read; with `few` the first fault alone."""
        try:
            if self._validator.is_valid(value):
                return []
            found = [self._first(value)] if few else islice(self._validator.iter_errors(value), MOST_FAULTS)
        except ValueError as error:  # a number of more than 4,300 digits, values nested too deeply
            return [Fault("", f"it cannot be checked: {_lowered(str(error).partition(';')[0])}")]
        return [Fault(written(error.instance_path), _lowered(error.message)) for error in found if error]

    def _first(self, value: Any) -> jsonschema_rs.ValidationError | None:
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error
        return None


def _fault_of(error: jsonschema_rs.ValidationError, schema: Any) -> Fault:
    """Of a reference that leads nowhere the library does not say where it stands."""
    if error.instance_path:
        return Fault(written(error.instance_path), _lowered(error.message))
    leading_there = (at for at, ref in _references(schema) if ref.removeprefix("#") in error.message)
    return Fault(written(next(leading_there, ())), _lowered(error.message))


def _references(schema: Any) -> Iterator[tuple[Pointer, str]]:
    pending: list[tuple[Pointer, Any]] = [((), schema)]
    while pending:
        at, part = pending.pop()
        members = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, member in members:
            if key in {"$schema", "$ref", "$dynamicRef"} and isinstance(member, str):
                yield (*at, key), member
            pending.append(((*at, key), member))


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
