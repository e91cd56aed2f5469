"""Filters before they are saved: what they would let pass and why, and how another dialect says them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from waypost.core import filters
from waypost.core.errors import Invalid
from waypost.core.filters import Dialect, Document, FilterLimits
from waypost.core.model import Event


class Verdict(Struct, frozen=True):
    """Whether an event passes, and the clause that decided, as a sentence."""

    event_id: str
    passes: bool
    reason: str


async def verdicts(filter_: object, events: Iterable[Event], limits: FilterLimits) -> list[Verdict]:
    """One for each event, in their order; other requests get their turn between two. Raises Invalid."""
    compiled = filters.compile_filter(_good(filter_, limits), limits)
    found = []
    for event in events:
        document = Document(event)
        found.append(Verdict(event.id, compiled.passes(document), compiled.explain(document)))
        await asyncio.sleep(0)
    return found


def converted(filter_: object, to: Dialect, limits: FilterLimits) -> dict[str, Any]:
    """The filter in another dialect; no filter is none in any of them.

    Raises Invalid for a filter that is not good, and for a clause that the other dialect cannot express. Numbers that
    a float would change are `decimal.Decimal`.
    """
    good = _good(filter_, limits)
    try:
        return filters.convert(good, to, limits) if good else good
    except filters.FilterError as error:
        raise _refusal(error) from None


def _good(filter_: object, limits: FilterLimits) -> dict[str, Any]:
    try:
        return filters.normalise(filter_, limits)
    except filters.FilterError as error:
        raise _refusal(error) from None


def _refusal(error: filters.FilterError) -> Invalid:
    return Invalid([f"filter: {error}"])
