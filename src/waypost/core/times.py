"""Instants as text: RFC 3339 outside, microseconds since the Unix epoch inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from waypost.core.model import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def render(instant: Micros) -> str:
    """RFC 3339 in UTC; the fraction of a second is left out when it is zero.

    >>> render(1_704_067_200_000_000), render(1_704_067_200_120_000)
    ('2024-01-01T00:00:00Z', '2024-01-01T00:00:00.120000Z')
    """
    second, fraction = divmod(instant, 1_000_000)
    return f"{_rendered(second)}.{fraction:06}Z" if fraction else f"{_rendered(second)}Z"


def render_optional(instant: Micros | None) -> str | None:
    """The same for an instant that may not be known or not have come."""
    return None if instant is None else render(instant)


@lru_cache(maxsize=256)
def _rendered(second: int) -> str:
    return (_EPOCH + second * _SECOND).isoformat().removesuffix("+00:00")


def parse(text: str) -> Micros | None:
    """The instant of an RFC 3339 date-time (section 5.6), or None. Digits below the microsecond are cut off."""
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    date, time, fraction, offset = found.groups()
    fraction = (fraction or ".0")[:7].ljust(7, "0")
    return _instant(f"{date}T{time}{fraction}{'+00:00' if offset in 'Zz' else offset}")


def parse_date(text: str) -> Micros | None:
    """Midnight UTC at the start of a `YYYY-MM-DD`, or None."""
    return _instant(f"{text}T00:00:00+00:00") if _DATE.fullmatch(text) else None


def _instant(iso: str) -> Micros | None:
    try:
        instant = (datetime.fromisoformat(iso) - _EPOCH) // _MICROSECOND
    except ValueError:
        return None
    return instant if FIRST <= instant <= LAST else None
