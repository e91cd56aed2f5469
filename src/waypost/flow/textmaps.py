"""Maps of text (metadata, config, credentials): what JSON may stand for text, and how a change is merged in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, UnsetType

Changes = Mapping[str, Any] | None | UnsetType
"""A change of a map as it was sent: left out, null, or an object to merge in (RFC 7396)."""


class Limits(Struct, frozen=True, kw_only=True):
    """How large a map of metadata may be: entries, and characters in a key and in a value."""

    entries: int = 100
    key_length: int = 128
    value_length: int = 4_096


def as_text(value: object) -> str | None:
    """The text that a JSON scalar stands for: `true`, `12` and `"12"` are texts; lists, objects and null are not."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    return None


def as_text_or_json(value: object) -> str | None:
    """As `as_text`, with an object as its JSON: how fields of the kind `key_value_map` travel."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else as_text(value)


def merged(old: Mapping[str, str] | None, changes: Changes) -> dict[str, Any]:
    """RFC 7396 on one level: a null removes a key, a null in place of the map clears it. New values are not checked."""
    if changes is None:
        return {}
    result: dict[str, Any] = dict(old or {})
    for key, value in () if isinstance(changes, UnsetType) else changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def texts(
    values: Mapping[str, Any], *, where: str, problems: list[str], convert: Callable[[str, object], str | None]
) -> dict[str, str]:
    """The values as text; those that are none are reported and left out."""
    result: dict[str, str] = {}
    for key, value in values.items():
        text = convert(key, value)
        if text is None:
            problems.append(f"{where}.{key} must be text")
        else:
            result[key] = text
    return result


def metadata(
    old: Mapping[str, str] | None, changes: Changes, *, where: str, limits: Limits, problems: list[str]
) -> dict[str, str] | None:
    """A map of metadata after a change; None when nothing is left in it."""
    result = texts(merged(old, changes), where=where, problems=problems, convert=lambda _key, value: as_text(value))
    problems += _oversize(result, where, limits)
    return result or None


def _oversize(values: Mapping[str, str], where: str, limits: Limits) -> list[str]:
    if len(values) > limits.entries:
        return [f"{where} must have at most {limits.entries} entries"]
    found = [
        f"{where} must have keys of 1 to {limits.key_length} printable characters"
        for key in values
        if not (0 < len(key) <= limits.key_length and key.isprintable())
    ][:1]
    return found + [
        f"{where}.{key} must be at most {limits.value_length} characters"
        for key, value in values.items()
        if len(value) > limits.value_length
    ]
