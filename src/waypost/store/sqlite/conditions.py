"""WHERE clauses from fixed SQL fragments and bound values; text from a request never becomes SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.core import ids
from waypost.store.paging import Range, TimeRange

_OPERATORS = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}


class Conditions:
    """Collects conditions that must all hold. Fragments come from the code, values go into `parameters`."""

    def __init__(self) -> None:
        self._fragments: list[str] = []
        self.parameters: list[Any] = []

    @property
    def where(self) -> str:
        return f" WHERE {self.all}" if self._fragments else ""

    @property
    def all(self) -> str:
        return " AND ".join(self._fragments)

    def either(self, alternatives: Sequence[Conditions]) -> Conditions:
        """All conditions of one of these hold; no alternatives, no condition."""
        if alternatives:
            self.when(f"({' OR '.join(each.all for each in alternatives)})")
            self.parameters += [value for each in alternatives for value in each.parameters]
        return self

    def any_of(self, column: str, values: Sequence[Any]) -> Conditions:
        """The column has one of the values; no values, no condition."""
        return self.when_any(f"{column} IN ({{values}})", values)

    def when_any(self, fragment: str, values: Sequence[Any]) -> Conditions:
        """A fragment in which `{values}` stands for the values; no values, no condition."""
        if values:
            self._fragments.append(fragment.replace("{values}", ", ".join("?" * len(values))))
            self.parameters += values
        return self

    def when(self, fragment: str, *values: Any) -> Conditions:
        self._fragments.append(fragment)
        self.parameters += values
        return self

    def contains_any(self, column: str, texts: Sequence[str]) -> Conditions:
        """The column's text has one of the texts in it; no texts, no condition."""
        if texts:
            self._fragments.append(f"({' OR '.join([f'instr({column}, ?)'] * len(texts))})")
            self.parameters += texts
        return self

    def within(self, column: str, bounds: Range) -> Conditions:
        for name, operator in _OPERATORS.items():
            bound = getattr(bounds, name)
            if bound is not None:
                self.when(f"{column} {operator} ?", bound)
        return self

    def numbered_within(self, column: str, bounds: TimeRange) -> Conditions:
        """Bounds on the instant in which a sequence number was made, to the millisecond."""
        if bounds.gte is not None:
            self.when(f"{column} >= ?", ids.bound(bounds.gte))
        if bounds.gt is not None:
            self.when(f"{column} >= ?", ids.bound(bounds.gt + 1))
        if bounds.lte is not None:
            self.when(f"{column} < ?", ids.bound(bounds.lte + 1))
        if bounds.lt is not None:
            self.when(f"{column} < ?", ids.bound(bounds.lt))
        return self

    def beyond(self, order: Sequence[str], position: Sequence[Any], *, forwards: bool) -> Conditions:
        """Past a position in the order, exclusively."""
        marks = ", ".join("?" * len(order))
        self._fragments.append(f"({', '.join(order)}) {'>' if forwards else '<'} ({marks})")
        self.parameters += position
        return self
