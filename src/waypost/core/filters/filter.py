"""Filters from the API's point of view: which dialect one is in, and the compiled filter that routing asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, structs

from waypost.core.filters import eventbridge, hookdeck, shopify
from waypost.core.filters.ast import Test, every
from waypost.core.filters.compile import Checks
from waypost.core.filters.cost import check_cost
from waypost.core.filters.document import Document, Scope, TooCostly
from waypost.core.filters.errors import FilterError, refuse
from waypost.core.filters.explain import Fact, Teller, teller_of
from waypost.core.filters.limits import DEFAULT_LIMITS, FilterLimits, Size, check_size
from waypost.core.filters.wording import NoWords

Dialect = Literal["hookdeck", "shopify", "eventbridge"]

_DIALECT = "$dialect"


class ParsedFilter(Struct, frozen=True):
    """A filter that was found good: the question it asks, the dialect it came in, and its size."""

    dialect: Dialect
    test: Test
    size: Size = Size()


def normalise(value: object, limits: FilterLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The filter object to keep for what a caller gave: an object as it is, a text as a Shopify query.

    Raises FilterError for anything else, and for a filter that is not good: what this returns compiles.
    """
    return measured(value, limits)[0]


def measured(value: object, limits: FilterLimits = DEFAULT_LIMITS) -> tuple[dict[str, Any], Size]:
    """The same with the filter's size. Raises FilterError."""
    if not isinstance(value, str | Mapping):
        raise FilterError("a filter is an object, or the text of a Shopify query")
    filter_ = {_DIALECT: "shopify", "query": value} if isinstance(value, str) else dict(value)
    return filter_, parse(filter_, limits).size


def parse(filter_: Mapping[str, Any], limits: FilterLimits = DEFAULT_LIMITS) -> ParsedFilter:
    """Read a filter object: Hookdeck JSON, or a query or pattern under its `$dialect`. Raises FilterError."""
    size = check_size(filter_, limits)
    parsed = _of_named_dialect(filter_, limits) if _DIALECT in filter_ else _of_hookdeck(filter_, limits)
    return structs.replace(parsed, size=size + Size(cost=check_cost(parsed.test, limits)))


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


_STEPS_OF_A_TELLER = 20
TOO_COSTLY_TO_SAY = "What decided takes too much work to say."


class CompiledFilter:
    """A filter ready for events."""

    def __init__(self, parsed: ParsedFilter, limits: FilterLimits = DEFAULT_LIMITS) -> None:
        self.parsed = parsed
        self._checks = Checks(limits)
        self._check, self._price = self._checks.of_event(parsed.test)
        self._teller: Teller | None = None

    def passes(self, document: Document, steps: int | None = None) -> bool:
        """Whether the event passes within so many steps, by default all that are left of the document's.

        One whose data cannot be read does not. Raises TooCostly when the steps run out.
        """
        scope = document.scope
        if scope.trouble is not None:
            return _unread(scope)
        scope.steps = given = document.left if steps is None else steps
        try:
            if self._price > given:
                raise TooCostly
            scope.steps -= self._price
            return self._check(scope.root, scope)
        finally:
            document.left -= given - scope.steps

    def explain(self, document: Document, steps: int | None = None) -> str:
        """The clause that decided, with its path, as a sentence; another sentence when the steps run out."""
        scope = document.scope
        if scope.trouble is not None:
            return f"Does not pass: {scope.trouble}."
        scope.steps = given = document.left if steps is None else steps
        try:
            fact = self._told(scope)
        except TooCostly:
            return TOO_COSTLY_TO_SAY
        finally:
            document.left -= given - scope.steps
        return f"{'Passes' if fact.holds else 'Does not pass'}: {fact.clause}."

    def _told(self, scope: Scope) -> Fact:
        if self._teller is None:
            scope.spend(_STEPS_OF_A_TELLER * sum(1 for _ in every(self.parsed.test)))
            self._teller = teller_of(self.parsed.test, self._checks)
        return self._teller(scope.root, scope, "")


def _unread(scope: Scope) -> bool:
    if scope.too_large:
        raise TooCostly
    return False


def compile_filter(filter_: Mapping[str, Any], limits: FilterLimits = DEFAULT_LIMITS) -> CompiledFilter:
    """Parse and compile a filter object. Raises FilterError."""
    return CompiledFilter(parse(filter_, limits), limits)
