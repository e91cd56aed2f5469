"""Filters from the API's point of view: which dialect one is in, and the compiled filter that routing asks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from waypost.core.filters import eventbridge, hookdeck, shopify
from waypost.core.filters.ast import Test
from waypost.core.filters.compile import Checks
from waypost.core.filters.cost import check_cost
from waypost.core.filters.document import Document, TooMuchWork
from waypost.core.filters.errors import FilterError, refuse
from waypost.core.filters.explain import Fact, Teller, teller_of
from waypost.core.filters.limits import DEFAULT_LIMITS, FilterLimits, check_size
from waypost.core.filters.wording import NoWords

Dialect = Literal["hookdeck", "shopify", "eventbridge"]

_DIALECT = "$dialect"


class ParsedFilter(Struct, frozen=True):
    """A filter that was found good: the question it asks, and the dialect it came in."""

    dialect: Dialect
    test: Test


def normalise(value: object, limits: FilterLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The filter object to keep for what a caller gave: an object as it is, a text as a Shopify query.

    Raises FilterError for anything else, and for a filter that is not good: what this returns compiles.
    """
    if not isinstance(value, str | Mapping):
        raise FilterError("a filter is an object, or the text of a Shopify query")
    filter_ = {_DIALECT: "shopify", "query": value} if isinstance(value, str) else dict(value)
    parse(filter_, limits)
    return filter_


def parse(filter_: Mapping[str, Any], limits: FilterLimits = DEFAULT_LIMITS) -> ParsedFilter:
    """Read a filter object: Hookdeck JSON, or a query or pattern under its `$dialect`. Raises FilterError."""
    check_size(filter_, limits)
    parsed = _of_named_dialect(filter_, limits) if _DIALECT in filter_ else _of_hookdeck(filter_, limits)
    check_cost(parsed.test, limits)
    return parsed


def _of_hookdeck(schema: Mapping[str, Any], limits: FilterLimits) -> ParsedFilter:
    return ParsedFilter("hookdeck", hookdeck.parse(schema, limits))


def _of_named_dialect(filter_: Mapping[str, Any], limits: FilterLimits) -> ParsedFilter:
    dialect = filter_[_DIALECT]
    if dialect == "shopify":
        query = _body(filter_, "query")
        if not isinstance(query, str):
            refuse(("query",), "query is a text")
        return ParsedFilter("shopify", shopify.parse(query, limits))
    if dialect != "eventbridge":
        refuse((_DIALECT,), "$dialect is shopify or eventbridge; Hookdeck JSON goes without it")
    pattern = _body(filter_, "pattern")
    if not isinstance(pattern, Mapping):
        refuse(("pattern",), "pattern is an object")
    return ParsedFilter("eventbridge", eventbridge.parse(pattern, limits, ("pattern",)))


def _body(filter_: Mapping[str, Any], key: str) -> object:
    for other in filter_:
        if other not in (_DIALECT, key):
            refuse((other,), f"a filter with this $dialect has no key but {key}")
    if key not in filter_:
        refuse((), f"a filter with this $dialect needs {key}")
    return filter_[key]


def write(test: Test, dialect: Dialect) -> dict[str, Any]:
    """The filter object that asks this in the dialect. Raises FilterError where the dialect has no words for it."""
    try:
        if dialect == "shopify":
            return {_DIALECT: "shopify", "query": shopify.write(test)}
        if dialect == "eventbridge":
            return {_DIALECT: "eventbridge", "pattern": eventbridge.write(test)}
        return hookdeck.write(test)
    except NoWords as refusal:
        raise refusal.of(test) from None


def convert(filter_: Mapping[str, Any], to: Dialect, limits: FilterLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The filter in another dialect, with the same answer for every event.

    Raises FilterError when the filter is not good, when the other dialect cannot say it, or when said there it would
    break a limit. Numbers that a float would change stay `decimal.Decimal`: encode them as JSON numbers.
    """
    parsed = parse(filter_, limits)
    if parsed.dialect == to:
        return dict(filter_)
    converted = write(parsed.test, to)
    parse(converted, limits)
    return converted


class CompiledFilter:
    """A filter ready for events. Neither of its questions raises."""

    def __init__(self, parsed: ParsedFilter, limits: FilterLimits = DEFAULT_LIMITS) -> None:
        self.parsed = parsed
        self._limits = limits
        self._checks = Checks(limits)
        self._check = self._checks.of_event(parsed.test)

    def passes(self, document: Document) -> bool:
        """Whether the event passes. One whose data cannot be read, or is too much work, does not."""
        scope = document.scope
        scope.steps = self._limits.max_steps
        try:
            return self._check(scope.root, scope) and scope.trouble is None
        except TooMuchWork:
            return False

    def explain(self, document: Document) -> str:
        """The clause that decided, with its path, as a sentence."""
        scope = document.scope
        if scope.trouble is not None:
            return f"Does not pass: {scope.trouble}."
        scope.steps = self._limits.max_steps
        try:
            fact = self._teller(scope.root, scope, "")
        except TooMuchWork:
            fact = Fact(False, f"it takes more than {self._limits.max_steps} steps through the event's lists")
        return f"{'Passes' if fact.holds else 'Does not pass'}: {fact.clause}."

    @cached_property
    def _teller(self) -> Teller:
        return teller_of(self.parsed.test, self._checks)


def compile_filter(filter_: Mapping[str, Any], limits: FilterLimits = DEFAULT_LIMITS) -> CompiledFilter:
    """Parse and compile a filter object. Raises FilterError."""
    return CompiledFilter(parse(filter_, limits), limits)
