"""How much of an exchange stays on record, so that no receiver, event or retry policy can fill the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs

from waypost.core.model import Outcome

TRUNCATED = "truncated"
"""Stands on record, as true, beside what was shortened."""

_LONGEST_CODE = 64
_SHORT = 128
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Exchange(Struct, frozen=True, gc=False):
    """What is kept of an attempt's request and of the answer, as JSON."""

    request: bytes | None
    response: bytes | None

    @property
    def size(self) -> int:
        return len(self.request or b"") + len(self.response or b"")


class Keeping(Struct, frozen=True, kw_only=True):
    """Bounds of what is kept of attempts, in bytes of JSON.

    `headers` bounds the headers, or metadata, of one request or answer, `exchange` the whole of it, `delivery` what all
    attempts of a delivery but the first keep; for the last one there is room for two more times `exchange`. `detail` is
    the longest sentence that says what went wrong, in characters.
    """

    headers: int = 8_192
    exchange: int = 65_536
    delivery: int = 262_144
    detail: int = 2_000

    def room(self, kept: int, *, last: bool) -> int:
        """What one more attempt may keep after the first has been made and others have kept so much."""
        return self.delivery + (2 * self.exchange if last else 0) - kept

    def bounded(self, outcome: Outcome) -> Outcome:
        """The outcome with a code and a sentence of bounded length: both may be a receiver's own words."""
        code, detail = outcome.code, outcome.detail
        if len(code) <= _LONGEST_CODE and len(detail or "") <= self.detail:
            return outcome
        short = detail if detail is None or len(detail) <= self.detail else f"{detail[: self.detail - 1]}\u2026"
        return structs.replace(outcome, code=code[:_LONGEST_CODE], detail=short)

    def exchange_of(self, outcome: Outcome) -> Exchange:
        return Exchange(self._text(outcome.request), self._text(outcome.response))

    def _text(self, part: Mapping[str, Any] | None) -> bytes | None:
        if part is None:
            return None
        text = _encode(part)
        return text if len(text) <= min(self.headers, self.exchange) else _encode(self._shortened(part))

    def _shortened(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is short stays whole; what is long is cut to the room that is left."""
        kept, room = {}, self.exchange
        for name, value in sorted(part.items(), key=lambda item: len(_encode(item[1]))):
            most = min(room, self.headers) if isinstance(value, Mapping) else room
            kept[name] = cut(value, most)
            room -= len(_encode(kept[name]))
        whole = all(kept[name] is value for name, value in part.items())
        return {name: kept[name] for name in part} | ({} if whole else {TRUNCATED: True})


def outline(outcome: Outcome) -> Exchange:
    """What is kept of an exchange for which there is no room: status, timings and whatever else is short."""
    return Exchange(_outline(outcome.request), _outline(outcome.response))


def _outline(part: Mapping[str, Any] | None) -> bytes | None:
    if part is None:
        return None
    return _encode({name: value for name, value in part.items() if len(_encode(value)) <= _SHORT} | {TRUNCATED: True})


def cut(value: Any, room: int) -> Any:
    """The value itself if its JSON fits into so many bytes, else as much of it as does; None for what has no parts."""
    if len(_encode(value)) <= room:
        return value
    if isinstance(value, str):
        return _cut_text(value, room)
    return _cut_map(value, room) if isinstance(value, Mapping) else None


def _cut_text(text: str, room: int) -> str:
    while text and (size := len(_encode(text))) > room:
        text = text[: min(len(text) - 1, len(text) * max(room, 0) // size)]
    return text


def _cut_map(values: Mapping[str, Any], room: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in values.items():
        size = len(_encode(name)) + len(_encode(value)) + 2
        if size > room:
            break
        kept[name] = value
        room -= size
    return kept
