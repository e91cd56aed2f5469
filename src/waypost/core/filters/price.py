"""What questions cost, in steps of about a tenth of a microsecond: what may be spent on one event is bounded by them.

Steps are counted, not timed, so that an event passes or not whatever else the machine does. The price of a question is
known when it is compiled, and is spent before it is asked. What depends on the data is spent as it is met:

| step for step | measured on one core of 2 GHz |
|---|---|
| 1 for a question, and for a list's element | 0.05 to 0.2 us |
| 10 and 1 for 16 characters times instructions of a regular expression | at worst 0.2 us |
| 1 for 128 characters scanned for a text, times the text's where that can be quadratic | at worst 0.1 us |
| 5 and 1 for 8 characters of text that is read as a number | 0.5 and 0.1 us |
| 100 for an address | 6 to 12 us |
| 1 for 16 bytes of a decimal number that is written out, more for long integers | 0.05 us |
| 20 for a condition that is put into words | 1 to 3 us |
"""

from __future__ import annotations

from collections import Counter

from waypost.core.filters.ast import (
    Compare,
    Contains,
    Element,
    EndsWith,
    Equal,
    EqualFold,
    FoundIn,
    InNetwork,
    Not,
    OneOf,
    Ref,
    Same,
    StartsWith,
    Test,
    Wildcard,
    below,
)
from waypost.core.filters.values import JsonObject, is_number

IN_BULK = 32
"""Parts of a question up to this price together are paid at once, whether or not the first of them decides."""


class Prices:
    """What questions cost before any data is seen."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, test: Test) -> int:
        """The price of a question, which must live as long as this does."""
        price = self._known.get(id(test))
        if price is None:
            price = self._known[id(test)] = self._worked_out(test)
        return price

    def _worked_out(self, test: Test) -> int:
        inside = sum(map(self.of, below(test)))
        if inside <= IN_BULK or isinstance(test, Element | Not):
            return _own(test) + inside
        return _own(test)


def _own(test: Test) -> int:
    match test:
        case (
            Equal(Ref(path)) | Compare(_, Ref(path)) | StartsWith(Ref(path)) | EndsWith(Ref(path)) | FoundIn(Ref(path))
        ):
            return 3 + len(path)
        case Equal(str() as text) | Compare(_, str() as text) | Contains(text):
            return 2 + len(text) // 1_024
        case StartsWith(str() as text) | EndsWith(str() as text) | EqualFold(text):
            return 2 + len(text) // 64
        case Wildcard(parts):
            return 3 + 2 * len(parts)
        case OneOf(members):
            return 3 + _namesakes(members)
        case Same(operand):
            return 2 + 2 * _values(operand)
        case InNetwork():
            return 2
        case _:
            return 1


def _namesakes(members: tuple[object, ...]) -> int:
    """How many numbers share a hash: a look-up may have to compare with all of these."""
    counts = Counter(hash(member) for member in members if is_number(member))
    return max(counts.values(), default=0) // 2


def _values(operand: object) -> int:
    pending, count = [operand], 0
    while pending:
        value = pending.pop()
        count += 1
        if isinstance(value, JsonObject):
            pending += [member for _, member in value.members]
        elif isinstance(value, tuple):
            pending += value
        elif isinstance(value, str):
            count += len(value) // 1_024
    return count


_WORK_OF_A_STEP = 128
_SHORT_TEXT, _LONG_TEXT, _SHORT_PART = 2_500, 30_000, 100
"""Where CPython's search may compare each character of the part at every place of the text; elsewhere it is linear."""


def scanning(text: int, part: int) -> int:
    """The price of looking for a part in a text, given their lengths (CPython's `Objects/stringlib/fastsearch.h`)."""
    if part > text:
        return 1
    quadratic = text < _SHORT_TEXT or (part < _SHORT_PART and text < _LONG_TEXT)
    return 1 + text * (min(part, text - part + 1) if quadratic else min(part, 6)) // _WORK_OF_A_STEP
