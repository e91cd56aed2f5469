"""Filters before they are saved: what they would let pass and why, and how another dialect says them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from msgspec import Struct

from waypost.core import filters
from waypost.core.errors import Invalid
from waypost.core.filters import Allowance, CompiledFilter, Dialect, Document, FilterLimits, Size, TooCostly
from waypost.core.model import Event


class Verdict(Struct, frozen=True):
    """Whether an event passes, and the clause that decided, as a sentence."""

    event_id: str
    passes: bool
    reason: str


async def verdicts(filter_: object, events: Sequence[Event], limits: FilterLimits) -> list[Verdict]:
    """One for each event, in their order; other requests get their turn between two. Raises Invalid."""
    compiled = await beside(_compiled, filter_, limits)
    allowance = Allowance(limits, len(events))
    found = []
    for event in events:
        steps = allowance.of_next()
        document = Document(event, steps, limits.max_data_values)
        found.append(_verdict(compiled, document, event.id))
        allowance.took(steps - document.left)
        await asyncio.sleep(0)
    return found


def _compiled(filter_: object, limits: FilterLimits) -> CompiledFilter:
    return filters.compile_filter(_good(filter_, limits), limits)


def _verdict(compiled: CompiledFilter, document: Document, event_id: str) -> Verdict:
    try:
        return Verdict(event_id, compiled.passes(document), compiled.explain(document))
    except TooCostly:
        return Verdict(event_id, False, document.too_costly)


class FilterReader:
    """Reads the filters of one destination."""

    def __init__(self, limits: FilterLimits) -> None:
        self._limits = limits
        self._size = Size()

    def read(self, value: object, problems: list[str]) -> dict[str, Any] | None:
        """The filter to keep; None with a problem more for one that is not good, or one too many."""
        if self._size.too_large(self._limits):
            return None
        try:
            filter_, size = filters.measured(value, self._limits)
        except filters.FilterError as error:
            problems.append(f"filter: {error}")
            return None
        self._size += size
        too_large = self._size.too_large(self._limits)
        problems += [f"filter: {too_large}"] if too_large else []
        return filter_


_T = TypeVar("_T")
_P = ParamSpec("_P")
_thread = ThreadPoolExecutor(1, "waypost-filters")


async def beside(work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Do something that takes its time, such as compiling a large filter, while others get theirs."""
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(work, *arguments, **named))


async def converted(filter_: object, to: Dialect, limits: FilterLimits) -> dict[str, Any]:
    """The filter in another dialect; no filter is none in any of them.

    Raises Invalid for a filter that is not good, and for a clause that the other dialect cannot express. Numbers that
    a float would change are `decimal.Decimal`.
    """
    return await beside(_converted, filter_, to, limits)


def _converted(filter_: object, to: Dialect, limits: FilterLimits) -> dict[str, Any]:
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
