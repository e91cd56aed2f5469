"""What the rig publishes: events of an exact size whose number can be read back out of the body at the receiver.

An event's id and a field of its data are `TAG-NNNNNNNN`: the run's own tag and the event's number.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

TAG_LENGTH = 4
_FIELD = b'"bench":"'
_DIGITS = 8
_FACTS = (
    b'","type":"order.created","customer":{"id":"cus_8123","email":"ada@example.com","plan":"pro"},'
    b'"amount":4995,"currency":"EUR","note":"'
)
_OPENING, _PLAIN, _CLOSING = b"{" + _FIELD, b'","note":"', b'"}'
_LETTERS = b"the quick brown fox jumps over the lazy dog "
SMALLEST_PAYLOAD = len(_OPENING) + TAG_LENGTH + 1 + _DIGITS + len(_PLAIN) + len(_CLOSING)


class Target(Struct, frozen=True):
    """Where a share of the events is addressed: all destinations of one tenant that subscribe to one topic."""

    tenant: str
    topic: str


def key(tag: str, number: int) -> bytes:
    return b"%s-%08d" % (tag.encode(), number)


def marker(tag: str) -> bytes:
    """What stands in a body directly before the number of an event of this run."""
    return _FIELD + tag.encode() + b"-"


def number_after(body: bytes, at: int) -> int:
    """The event's number that stands at a place in a body."""
    return int(body[at : at + _DIGITS])


def data_parts(payload: int) -> tuple[bytes, bytes]:
    """The data of an event before and after its key; with the key between them, `payload` bytes."""
    room = payload - SMALLEST_PAYLOAD
    facts = _FACTS if has_facts(payload) else _PLAIN
    filler = room - (len(facts) - len(_PLAIN))
    note = (_LETTERS * (filler // len(_LETTERS) + 1))[:filler]
    return _OPENING, facts + note + _CLOSING


def has_facts(payload: int) -> bool:
    """Whether data of this size has more fields than its key and a note."""
    return payload - SMALLEST_PAYLOAD >= len(_FACTS) - len(_PLAIN)


class Requests:
    """Makes publish requests by joining prebuilt parts, so that the load generator costs next to nothing."""

    def __init__(self, targets: Sequence[Target], *, tag: str, payload: int, batch: int, api_key: str) -> None:
        self._tag, self._batch, self._api_key = tag, batch, api_key
        self._parts = [self._event_parts(target, payload) for target in targets]
        self._heads = [self._head("/api/v1/publish", self._size(parts)) for parts in self._parts]

    def make(self, first: int, count: int) -> bytes:
        """The request that publishes the events numbered `first` to `first + count - 1`."""
        if self._batch:
            return self._many(first, count)
        which = first % len(self._parts)
        before, between, after = self._parts[which]
        own = key(self._tag, first)
        return b"".join((self._heads[which], before, own, between, own, after))

    def _many(self, first: int, count: int) -> bytes:
        body = b'{"events":[' + b",".join(map(self._event, range(first, first + count))) + b"]}"
        return self._head("/api/v1/publish/batch", len(body)) + body

    def _event(self, number: int) -> bytes:
        before, between, after = self._parts[number % len(self._parts)]
        own = key(self._tag, number)
        return b"".join((before, own, between, own, after))

    def _event_parts(self, target: Target, payload: int) -> tuple[bytes, bytes, bytes]:
        opening, rest = data_parts(payload)
        address = f'","tenant_id":"{target.tenant}","topic":"{target.topic}","data":'.encode()
        return b'{"id":"', address + opening, rest + b"}"

    def _size(self, parts: tuple[bytes, bytes, bytes]) -> int:
        return sum(map(len, parts)) + 2 * len(key(self._tag, 0))

    def _head(self, path: str, size: int) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self._api_key}\r\n"
            f"content-type: application/json\r\ncontent-length: {size}\r\n\r\n"
        ).encode()
