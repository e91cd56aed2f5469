"""Thousands of questions for the oracles: events, and filters made to meet them about half of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random
from typing import Any

NAMES = ("a", "b", "c", "d")
TEXTS = ("x", "xy", "Xy", "yz", "zebra", "10.0.0.7")


class Generator:
    """Draws from its own dice, so that a seed gives the same questions on every machine."""

    def __init__(self, seed: int, numbers: tuple[Any, ...], texts: tuple[str, ...] = TEXTS) -> None:
        self.dice = Random(seed)
        self._scalars: tuple[Any, ...] = (*numbers, *texts)

    def one(self, *choices: Any) -> Any:
        return self.dice.choice(choices)

    def often(self, chance: float) -> bool:
        return self.dice.random() < chance

    def scalar(self) -> Any:
        return self.dice.choice(self._scalars)

    def value(self, depth: int = 2) -> Any:
        kind = self.dice.random()
        if depth == 0 or kind < 0.5:
            return self.scalar()
        if kind < 0.75:
            return [self.value(depth - 1) for _ in range(self.dice.randrange(4))]
        return self.object(depth - 1)

    def object(self, depth: int = 2) -> dict[str, Any]:
        return {name: self.value(depth) for name in self.dice.sample(NAMES, self.one(0, 1, 2, 3, 3))}

    def near(self, value: Any) -> Any:
        """A scalar, preferably one from this value."""
        known = [found for found in scalars_in(value) if not isinstance(found, dict)]
        return self.dice.choice(known) if known and self.often(0.7) else self.scalar()

    def objects_in(self, value: Any) -> list[dict[str, Any]]:
        return [found for found in elements(value) if isinstance(found, dict) and found]

    # --- EventBridge --------------------------------------------------------------------------------------------------

    def pattern(self, event: dict[str, Any], names: tuple[str, ...] = NAMES, depth: int = 2) -> dict[str, Any]:
        present = [name for name in names if name in event]
        known = present if present and self.often(0.85) else names
        chosen = self.dice.sample(known, min(len(known), self.one(1, 1, 2)))
        pattern: dict[str, Any] = {name: self._field(event.get(name), depth) for name in chosen}
        rest = tuple(name for name in names if name not in pattern)
        if depth and rest and self.often(0.25):
            pattern["$or"] = [self.pattern(event, rest, depth - 1) for _ in range(2)]
        return pattern

    def _field(self, value: Any, depth: int) -> Any:
        objects = self.objects_in(value)
        if depth and (objects or self.often(0.1)):
            return self.pattern(self.dice.choice(objects) if objects else {}, NAMES, depth - 1)
        return [self._matcher(value) for _ in range(self.dice.randint(1, 2))]

    def _matcher(self, value: Any) -> Any:
        near = self.near(value)
        text = str(near)
        kinds: tuple[Callable[[], Any], ...] = (
            lambda: near,
            lambda: {"exists": self.often(0.5)},
            lambda: {"prefix": text[:1]},
            lambda: {"suffix": {"equals-ignore-case": text[-1:].upper()}},
            lambda: {"equals-ignore-case": text.upper()},
            lambda: {"wildcard": text[:1] + "*" + text[2:]},
            lambda: {"anything-but": self._excluded(near)},
            lambda: {"numeric": [self.one("=", "<", "<=", ">", ">="), self.one(0, 1, Decimal("2.5"), 10)]},
            lambda: {"numeric": [">", 0, "<=", self.one(1, 9, 10)]},
            lambda: {"cidr": self.one("10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/8")},
        )
        return self.dice.choice(kinds)()

    def _excluded(self, near: Any) -> Any:
        if isinstance(near, bool) or near is None:
            near = self.one(*TEXTS)
        if not isinstance(near, str):
            return self.one(near, [near, 77])
        affix = {self.one("prefix", "suffix", "equals-ignore-case"): near}
        return self.one(near, [near, "other"], affix, {"wildcard": near[:1] + "*"}, {"prefix": [near, "q"]})

    # --- Hookdeck JSON ------------------------------------------------------------------------------------------------

    def schema(self, value: Any, depth: int = 3) -> Any:
        """A schema in the reach of a value of the document."""
        objects = self.objects_in(value)
        if objects and depth and self.often(0.8):
            return self.object_schema(self.dice.choice(objects), depth - 1)
        if isinstance(value, list) and self.often(0.3):
            return [self.schema(self.dice.choice(value), 0) for _ in range(self.dice.randrange(3)) if value]
        return self.near(value) if self.often(0.35) else self._operators(value, depth)

    def object_schema(self, value: dict[str, Any], depth: int = 3) -> dict[str, Any]:
        known = tuple(value) if value and self.often(0.85) else NAMES
        names = self.dice.sample(known, min(len(known), self.one(1, 1, 2)))
        schema = {name: self.schema(value.get(name), depth) for name in names}
        if depth and self.often(0.15):
            schema[self.one("$or", "$and")] = [self.object_schema(value, depth - 1) for _ in range(2)]
        return schema

    def _operators(self, value: Any, depth: int) -> Any:
        near = self.near(value)
        text = str(near)
        other = self.one("$or", "$and", "$not")
        kinds: tuple[Callable[[], tuple[str, Any]], ...] = (
            lambda: (self.one("$eq", "$neq"), near),
            lambda: (self.one("$eq", "$neq"), value),
            lambda: (self.one("$gt", "$gte", "$lt", "$lte"), near if type(near) in (str, int, Decimal) else 1),
            lambda: (self.one("$in", "$nin"), [near if type(near) in (str, int, Decimal) else 1, "q"]),
            lambda: (self.one("$in", "$nin"), text[:1]),
            lambda: ("$startsWith", self.one(text[:1], [text, "q"])),
            lambda: ("$endsWith", self.one(text[-1:], [text, "q"])),
            lambda: ("$exist", self.often(0.5)),
            lambda: ("$ref", self.one(*NAMES)),
            lambda: (self.one("$gte", "$eq"), {"$ref": self.one(*NAMES)}),
            lambda: (other, near if other == "$not" else [near, self.schema(value, min(depth, 1) - 1 if depth else 0)]),
        )
        return dict(self.dice.choice(kinds)() for _ in range(self.one(1, 1, 2)))


def elements(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for member in value:
            yield from elements(member)
    else:
        yield value


def scalars_in(value: Any) -> Iterator[Any]:
    """The scalars of a value and of the lists in it."""
    return (element for element in elements(value) if not isinstance(element, dict))
