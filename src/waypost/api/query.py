"""Query parameters: arrays in three spellings, time ranges, choices."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Depends, Request

from waypost.core import times
from waypost.core.errors import BadRequest, Invalid
from waypost.core.model import Micros
from waypost.store.paging import LARGEST_PAGE, Range, TimeRange

MOST_VALUES = 500

_INDEXED = re.compile(r"(.+)\[([0-9]{1,6})\]", re.DOTALL)
_OPERATORS = TimeRange.__struct_fields__


class Query:
    """The parameters of one request. Empty values count as not given. `most_bytes` is how large a page may be."""

    def __init__(self, pairs: Sequence[tuple[str, str]], *, most_bytes: int = LARGEST_PAGE) -> None:
        self.most_bytes = most_bytes
        self._pairs = [(name, value) for name, value in pairs if value != ""]

    def _named(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self._pairs if key == name)

    def _indexed(self, name: str) -> tuple[str, ...]:
        found = ((_INDEXED.fullmatch(key), value) for key, value in self._pairs)
        numbered = [(int(match[2]), value) for match, value in found if match and match[1] == name]
        return tuple(value for _, value in sorted(numbered, key=lambda item: item[0]))

    def has(self, name: str) -> bool:
        """Whether there is anything of this name, in any spelling."""
        return any(key.partition("[")[0] == name for key, _ in self._pairs)

    def many(self, name: str) -> tuple[str, ...]:
        """All values of an array: `name[0]=a&name[1]=b`, else `name[]=a&name[]=b`, else `name=a&name=b`."""
        values = self._indexed(name) or self._named(f"{name}[]") or self._named(name)
        if len(values) > MOST_VALUES:
            raise wrong(name, f"must have at most {MOST_VALUES} values")
        return values

    def keys(self, name: str) -> set[str]:
        """The keys of an object: `a` for `name[a]=x`, `name[a][]=x` and `name[a][0]=x`."""
        prefix = f"{name}["
        return {key.removeprefix(prefix).partition("]")[0] for key, _ in self._pairs if key.startswith(prefix)}

    def one(self, name: str) -> str | None:
        """The only value, or None. Raises Invalid when there are several."""
        values = self._named(name)
        if len(values) > 1:
            raise wrong(name, "must be given once")
        return values[0] if values else None

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        """The value, which must be one of the options, or None."""
        value = self.one(name)
        if value is not None and value not in options:
            raise wrong(name, f"must be {_alternatives(options)}")
        return value

    def choices(self, name: str, options: Sequence[str]) -> tuple[str, ...]:
        """All values of an array, each of which must be one of the options."""
        values = self.many(name)
        if not set(values) <= set(options):
            raise wrong(name, f"must be {_alternatives(options)}")
        return values

    def whole(self, name: str, *, default: int, most: int) -> int:
        """A whole number from 1 to `most`. Raises BadRequest."""
        values = self._named(name)
        if not values:
            return default
        value = values[0]
        if len(values) > 1 or not re.fullmatch("[0-9]{1,9}", value) or not 1 <= int(value) <= most:
            raise BadRequest(f"{name} must be a whole number from 1 to {most}")
        return int(value)

    def time(self, name: str) -> TimeRange:
        """`name[gte]=2024-01-01T00:00:00Z` and its like. Raises BadRequest for another operator or no time."""
        return TimeRange(**self._bounds(name, instant))

    def bounds(self, name: str) -> Range:
        """`name[gte]=500` and its like. Raises BadRequest for another operator or no whole number."""
        return Range(**self._bounds(name, _number))

    def _bounds(self, name: str, read: Callable[[str, str], int]) -> dict[str, int]:
        bounds = {}
        for key, value in self._pairs:
            if key == name or key.startswith(f"{name}["):
                operator = key.removeprefix(name)[1:-1]
                if operator not in _OPERATORS or key != f"{name}[{operator}]":
                    raise BadRequest(f"{key} is not known: use {', '.join(f'{name}[{op}]' for op in _OPERATORS)}")
                bounds[operator] = read(key, value)
        return bounds

    def places(self, name: str) -> dict[str, tuple[str, ...]]:
        """`name[some.place]=value`: the values by place. Raises BadRequest for anything else under the name."""
        found: dict[str, tuple[str, ...]] = {}
        for key, value in self._pairs:
            if key == name or key.startswith(f"{name}["):
                place = key.removeprefix(name)[1:-1]
                if not place or "[" in place or "]" in place or key != f"{name}[{place}]":
                    raise BadRequest(f"{key} is not known: use {name}[key] or {name}[key.within]")
                found[place] = (*found.get(place, ()), value)
        if sum(map(len, found.values())) > MOST_VALUES:
            raise wrong(name, f"must have at most {MOST_VALUES} values")
        return found


def wrong(name: str, rule: str) -> Invalid:
    """A query parameter that breaks a rule."""
    return Invalid({f"query.{name}": rule})


def _alternatives(options: Sequence[str]) -> str:
    quoted = [f"'{option}'" for option in options]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _number(key: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise BadRequest(f"{key} must be a whole number")
    return int(text)


def instant(key: str, text: str) -> Micros:
    """The instant that a parameter names. Raises BadRequest."""
    # a "+" of an offset that was sent unescaped arrives as a blank
    plus_restored = re.sub(r" (?=[0-9]{2}:[0-9]{2}$)", "+", text)
    instant = times.parse_date(text)
    instant = times.parse(plus_restored) if instant is None else instant
    if instant is None:
        raise BadRequest(f"{key} must be an RFC 3339 date-time or a date of the form YYYY-MM-DD")
    return instant


async def _query(request: Request) -> Query:
    """Raises Invalid for parameters that the route's description does not have: they would narrow nothing."""
    pairs = request.query_params.multi_items()
    described = (request.scope["route"].openapi_extra or {}).get("parameters", ())
    known = {parameter["name"].partition("[")[0] for parameter in described}
    strangers = {f"query.{name}": "is not known" for name, _ in pairs if name.partition("[")[0] not in known}
    if strangers:
        raise Invalid(strangers)
    return Query(pairs, most_bytes=request.app.state.backend.settings.page_max_bytes)


QueryOf = Annotated[Query, Depends(_query)]
