"""How places of the document are written: `data.variants[0].price`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from waypost.core.filters.ast import CURRENT, Ref

_NAME = re.compile(r"[^\s.\[\]'\"]+")
_STEP = re.compile(
    r"""
      \.?(?P<name>[^\s.\[\]'"]+)
    | \[(?P<index>[0-9]{1,9})\]
    | \[(?P<current>\$index)\]
    | \['(?P<single>[^']*)'\]
    | \["(?P<double>[^"]*)"\]
    """,
    re.VERBOSE,
)


def reference(text: str) -> Ref:
    """The reference that a text writes: `data.items[0].id`, `data['odd key']`, `data.items[$index].id`, `$.data.id`.

    Raises ValueError with a sentence.
    """
    rest = text[1:] if text == "$" or text.startswith(("$.", "$[")) else text
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None or (rest[at] != "." and found["name"] and at > 0):
            raise ValueError(f"{text!r} is no path: {rest[at:]!r} cannot be read")
        steps.append(_step(found))
        at = found.end()
    if not steps:
        raise ValueError("a path names at least one field")
    return Ref(tuple(steps))


def _step(found: re.Match[str]) -> str | int:
    if found["index"]:
        return int(found["index"])
    if found["current"]:
        return CURRENT
    return next(found[name] for name in ("name", "single", "double") if found[name] is not None)


def written(path: Iterable[str | int]) -> str:
    """The path as `reference` reads it.

    >>> written(("data", "items", 0, "odd key"))
    "data.items[0]['odd key']"
    """
    return "".join(map(step, path)).removeprefix(".")


def step(to: str | int) -> str:
    """One step as it is added to a path: `.price`, `[0]`, `['odd key']`."""
    if isinstance(to, int):
        return "[$index]" if to == CURRENT else f"[{to}]"
    if _NAME.fullmatch(to):
        return "." + to
    quote = '"' if "'" in to else "'"
    return f"[{quote}{to}{quote}]"
