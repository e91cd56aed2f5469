"""What was behind a failure, for those who operate the server."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

_MOST = 5
_LONGEST = 500
_SHORTEST_SECRET = 4
_OWN = {
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.ENOSPC: "disk",
}


def causes_of(error: BaseException | None, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """An exception and what led to it, one line each; secrets in what libraries say are masked."""
    return tuple([_line(cause, secrets) for cause in _chain(error)])


def own_trouble(error: BaseException | None) -> str | None:
    """What of our own was wanting, if that is behind an exception: `descriptors`, `memory` or `disk`."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return "memory"
        if isinstance(cause, OSError) and cause.errno in _OWN:
            return _OWN[cause.errno]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MOST):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _line(error: BaseException, secrets: Iterable[str]) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = " ".join(str(error).split())
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            said = said.replace(secret, "****")
    return f"{name}: {said[:_LONGEST]}" if said else name
