"""Time-ordered numbers and how they are written.

A sequence number is 63 bits: 41 of milliseconds since 2024-01-01 UTC, 10 of node, 12 of counter. Primary keys, page
cursors and public ids are all made of it, so that "newer" means "larger" everywhere and rows are appended.
"""

from __future__ import annotations

from waypost.core.model import Micros

_EPOCH_MS = 1_704_067_200_000
_NODE_BITS = 10
_COUNTER_BITS = 12
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_LENGTH = 13
_MAX = (1 << 63) - 1

NODES = 1 << _NODE_BITS
COUNTS = 1 << _COUNTER_BITS


def compose(milliseconds: int, node: int, counter: int) -> int:
    """The number for an instant (milliseconds since the Unix epoch), a node and a counter."""
    return (milliseconds - _EPOCH_MS) << (_NODE_BITS + _COUNTER_BITS) | node << _COUNTER_BITS | counter


def time_of(seq: int) -> Micros:
    """When the number was made, to the millisecond."""
    return ((seq >> (_NODE_BITS + _COUNTER_BITS)) + _EPOCH_MS) * 1000


def bound(instant: Micros) -> int:
    """The smallest number that can have been made at or after an instant; clamped to what a number can hold."""
    milliseconds = -(-instant // 1000)
    return max(0, min(compose(milliseconds, 0, 0), _MAX))


def encode(prefix: str, seq: int) -> str:
    """The public id: `evt_01h2xcejqtf2n`, 13 letters that sort as the numbers do."""
    pairs = "".join([_PAIRS[seq >> shift & 1023] for shift in (50, 40, 30, 20, 10, 0)])
    return f"{prefix}_{_ALPHABET[seq >> 60]}{pairs}"


def encode_pair(prefix: str, seq: int, no: int) -> str:
    """The public id of what has a sequence number and another number of its own: `dlv_01h2xcejqtf2n4z`."""
    digits = ""
    while no:
        no, digit = divmod(no, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return encode(prefix, seq) + digits


def decode_pair(prefix: str, text: str) -> tuple[int, int] | None:
    """Both numbers, or None when the text is not such an id as it is written here."""
    length = len(prefix) + 1 + _LENGTH
    seq, digits = decode(prefix, text[:length]), text[length:]
    if seq is None or not digits or len(digits) > _LENGTH or digits[0] == "0" or not _VALUE.keys() >= set(digits):
        return None
    no = 0
    for digit in digits:
        no = no << 5 | _VALUE[digit]
    return (seq, no) if no <= _MAX else None


def decode(prefix: str, text: str) -> int | None:
    """The number in a public id, or None when the text is not one of this prefix."""
    head, separator, letters = text.partition("_")
    if head != prefix or not separator or len(letters) != _LENGTH:
        return None
    seq = 0
    for letter in letters:
        value = _VALUE.get(letter)
        if value is None:
            return None
        seq = seq << 5 | value
    return seq if seq <= _MAX else None
