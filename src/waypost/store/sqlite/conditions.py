"""WHERE clauses from fixed SQL fragments and bound values; text from a request never becomes SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.core import ids
from waypost.store.base import TimeRange

_OPERATORS = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}


class Conditions:
    """Collects conditions that must all hold. Fragments come from the code, values go into `parameters`."""

    def __init__(self) -> None:
        self._fragments: list[str] = []
        self.parameters: list[Any] = []

    @property
    def where(self) -> str:
        return f" WHERE {' AND '.join(self._fragments)}" if self._fragments else ""

    def any_of(self, column: str, values: Sequence[Any]) -> Conditions:
        """The column has one of the values; no values, no condition."""
        return self.when_any(f"{column} IN ({{values}})", values)

    def when_any(self, fragment: str, values: Sequence[Any]) -> Conditions:
        """A fragment in which `{values}` stands for the values; no values, no condition."""
        if values:
            self._fragments.append(fragment.replace("{values}", ", ".join("?" * len(values))))
            self.parameters += values
        return self

    def within(self, column: str, bounds: TimeRange) -> Conditions:
        for name, operator in _OPERATORS.items():
            instant = getattr(bounds, name)
            if instant is not None:
                self._add(f"{column} {operator} ?", instant)
        return self

    def numbered_within(self, column: str, bounds: TimeRange) -> Conditions:
        """Bounds on the instant in which a sequence number was made, to the millisecond."""
        if bounds.gte is not None:
            self._add(f"{column} >= ?", ids.bound(bounds.gte))
        if bounds.gt is not None:
            self._add(f"{column} >= ?", ids.bound(bounds.gt + 1))
        if bounds.lte is not None:
            self._add(f"{column} < ?", ids.bound(bounds.lte + 1))
        if bounds.lt is not None:
            self._add(f"{column} < ?", ids.bound(bounds.lt))
        return self

    def beyond(self, order: Sequence[str], position: Sequence[Any], *, forwards: bool) -> Conditions:
        """Past a position in the order, exclusively."""
        marks = ", ".join("?" * len(order))
        self._fragments.append(f"({', '.join(order)}) {'>' if forwards else '<'} ({marks})")
        self.parameters += position
        return self

    def _add(self, fragment: str, value: Any) -> None:
        self._fragments.append(fragment)
        self.parameters.append(value)
