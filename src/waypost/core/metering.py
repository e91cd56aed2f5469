"""Counting over time: aligned buckets, what is counted by what, and measures made of counts.

Counts are kept in tiers: by day, by hour, by minute. A range of time is covered by the widest tiers that fit into it,
and at its ragged ends by the records themselves.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count, islice
from typing import NamedTuple

from msgspec import Struct

from waypost.core.model import DAY, SECOND, Micros

MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
TIERS = (DAY, HOUR, MINUTE)
"""The widths by which counts are kept, widest first."""

_WIDTHS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_MOST = {"s": 60, "m": 60, "h": 24, "d": 31, "w": 4, "M": 12}
_GRANULARITY = re.compile("([0-9]{1,3})([smhdwM])")
_FIRST_SUNDAY: Micros = 3 * DAY
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS_A_CYCLE, _DAYS_A_CYCLE = 4_800, 146_097  # the calendar repeats every 400 years


class Granularity(Struct, frozen=True):
    """The length of a bucket: so many seconds, minutes, hours, days, weeks or months.

    Buckets are aligned to the beginning of 1970 (UTC), weeks to its first Sunday.
    """

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number}{self.unit}"

    @property
    def step(self) -> Micros:
        """What can be counted together: a bucket, or a day where buckets differ in length."""
        return DAY if self.unit == "M" else self.number * _WIDTHS[self.unit]


def granularity(text: str) -> Granularity | None:
    """`15m`, `1d`, `3M` ...; None for anything else.

    >>> granularity("15m"), granularity("25h")
    (Granularity(number=15, unit='m'), None)
    """
    found = _GRANULARITY.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= _MOST[found[2]]:
        return None
    return Granularity(int(found[1]), found[2])


def edges(start: Micros, end: Micros, by: Granularity | None, *, most: int) -> list[Micros] | None:
    """The instants between the buckets that a range touches, both outer ones included; None for more than `most`.

    Without a granularity the range itself is the only bucket.
    """
    if by is None:
        return [start, end]
    found: list[Micros] = []
    for edge in islice(_grid(start, by), most + 1):
        found.append(edge)
        if edge >= end:
            return found
    return None


def _grid(start: Micros, by: Granularity) -> Iterator[Micros]:
    """The edges from the one at or before an instant on, without an end."""
    if by.unit == "M":
        return map(_month, count(_month_of(start) // by.number * by.number, by.number))
    origin = _FIRST_SUNDAY if by.unit == "w" else 0
    return count(start - (start - origin) % by.step, by.step)


def _month_of(instant: Micros) -> int:
    """The number of the month since January 1970."""
    at = _EPOCH + timedelta(microseconds=instant)
    return (at.year - 1970) * 12 + at.month - 1


def _month(number: int) -> Micros:
    """When a month begins, also one that lies beyond the year 9999."""
    cycles, within = divmod(number, _MONTHS_A_CYCLE)
    years, month = divmod(within, 12)
    days = date(1970 + years, month + 1, 1).toordinal() - _EPOCH.toordinal() + cycles * _DAYS_A_CYCLE
    return days * DAY


class Piece(NamedTuple):
    """A part of a range of time and the width of the tier that has its counts; 0 for the records themselves."""

    width: Micros
    start: Micros
    end: Micros


def cover(start: Micros, end: Micros, step: Micros | None, complete_since: Mapping[Micros, Micros]) -> list[Piece]:
    """Split a range into pieces of as wide tiers as possible, in order.

    What is counted together by `step` must not straddle two steps; None: all is counted together. Tiers are complete
    from an instant on, given by width.
    """
    usable = [(width, complete_since[width]) for width in TIERS if step is None or step % width == 0]
    return _cover(start, end, usable)


def _cover(start: Micros, end: Micros, tiers: Sequence[tuple[Micros, Micros]]) -> list[Piece]:
    if start >= end:
        return []
    if not tiers:
        return [Piece(0, start, end)]
    (width, since), *finer = tiers
    first, last = -(-max(start, since) // width) * width, end // width * width
    if first >= last:
        return _cover(start, end, finer)
    return [*_cover(start, first, finer), Piece(width, first, last), *_cover(last, end, finer)]


class Sums(NamedTuple):
    """Counts from which every measure is made; events have the first alone. `numbers` are all attempt numbers together.

    A manual attempt is no first one, whatever its number.
    """

    total: int = 0
    ok: int = 0
    first: int = 0
    retries: int = 0
    manual: int = 0
    numbers: int = 0


class Subject(Struct, frozen=True):
    """What is counted, and what it can be measured and told apart by."""

    measures: tuple[str, ...]
    dimensions: tuple[str, ...]


class Question(Struct, frozen=True, kw_only=True):
    """What to count: from `start` until before `end`, in buckets, by dimensions. Filters are values by dimension.

    `edges` are those of the buckets.
    """

    subject: Subject
    start: Micros
    end: Micros
    granularity: Granularity | None
    edges: Sequence[Micros]
    measures: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = {}

    @property
    def step(self) -> Micros | None:
        return None if self.granularity is None else self.granularity.step

    @property
    def sums(self) -> frozenset[str]:
        """The fields of Sums that its measures need; the others may be left at 0."""
        return frozenset(name for measure in self.measures for name in _MEASURES[measure].sums)

    @property
    def steps(self) -> int:
        """How many steps the range touches."""
        return 1 if self.step is None else -(-(self.end - self.edges[0]) // self.step)


class Count(NamedTuple):
    """What was counted in one step (numbered from the first edge) under one combination of dimensions."""

    step: int
    dimensions: tuple[str, ...]
    sums: Sums


class Point(NamedTuple):
    """One line of an answer: a bucket by its number, a combination of dimensions, and the measures asked for."""

    bucket: int
    dimensions: tuple[str, ...]
    measures: tuple[float, ...]


def points(question: Question, counts: Iterable[Count], *, most: int) -> tuple[list[Point], bool]:
    """The answer to a question, from counts in the order of their dimensions; whether `most` cut it off.

    With a granularity every combination that occurs has a point for every bucket.
    """
    by_dimensions: dict[tuple[str, ...], dict[int, Sums]] = {}
    if question.granularity is not None and not question.dimensions:
        by_dimensions[()] = {}
    by_month = question.granularity is not None and question.granularity.unit == "M"
    for step, dimensions, sums in counts:
        buckets = by_dimensions.setdefault(dimensions, {})
        bucket = bisect_right(question.edges, question.edges[0] + step * DAY) - 1 if by_month else step
        before = buckets.get(bucket)
        buckets[bucket] = sums if before is None else Sums(*map(sum, zip(before, sums, strict=True)))
    made: list[Point] = []
    lengths = [(after - before) / SECOND for before, after in zip(question.edges, question.edges[1:], strict=False)]
    computed = [_MEASURES[measure].of for measure in question.measures]
    for dimensions, buckets in by_dimensions.items():
        for bucket, seconds in enumerate(lengths):
            if len(made) == most:
                return made, True
            sums = buckets.get(bucket, _NOTHING)
            made.append(Point(bucket, dimensions, tuple([measure(sums, seconds) for measure in computed])))
    return made, False


_NOTHING = Sums()


class _Measure(NamedTuple):
    """How a measure is made of sums and the seconds of a bucket, and which sums these are."""

    sums: tuple[str, ...]
    of: Callable[[Sums, float], float]


_MEASURES = {
    "count": _Measure(("total",), lambda sums, _: sums.total),
    "successful_count": _Measure(("ok",), lambda sums, _: sums.ok),
    "failed_count": _Measure(("total", "ok"), lambda sums, _: sums.total - sums.ok),
    "error_rate": _Measure(("total", "ok"), lambda sums, _: _share(sums.total - sums.ok, sums.total)),
    "first_attempt_count": _Measure(("first",), lambda sums, _: sums.first),
    "retry_count": _Measure(("retries",), lambda sums, _: sums.retries),
    "manual_retry_count": _Measure(("manual",), lambda sums, _: sums.manual),
    "avg_attempt_number": _Measure(("numbers", "total"), lambda sums, _: _share(sums.numbers, sums.total)),
    "rate": _Measure(("total",), lambda sums, seconds: sums.total / seconds),
    "successful_rate": _Measure(("ok",), lambda sums, seconds: sums.ok / seconds),
    "failed_rate": _Measure(("total", "ok"), lambda sums, seconds: (sums.total - sums.ok) / seconds),
}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


EVENTS = Subject(measures=("count", "rate"), dimensions=("tenant_id", "topic", "destination_id"))
ATTEMPTS = Subject(
    measures=tuple(_MEASURES),
    dimensions=(
        "tenant_id",
        "destination_id",
        "destination_type",
        "topic",
        "status",
        "code",
        "manual",
        "attempt_number",
    ),
)
