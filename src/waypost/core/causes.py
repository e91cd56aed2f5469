"""What was behind a failure, for those who operate the server."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 5
_LONGEST = 500
_SHORTEST_SECRET = 4


def causes_of(error: BaseException | None, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """An exception and what led to it, one line each; secrets in what libraries say are masked."""
    causes: list[str] = []
    while error is not None and len(causes) < _MOST:
        causes.append(_line(error, secrets))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return tuple(causes)


def _line(error: BaseException, secrets: Iterable[str]) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = " ".join(str(error).split())
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            said = said.replace(secret, "****")
    return f"{name}: {said[:_LONGEST]}" if said else name
