"""What a tenant's token may ask of the server: so often, and so much at once, by what a request costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from msgspec import Struct

from waypost.core.errors import TooMany

_REMEMBERED = 4_096


class Cost(StrEnum):
    """What a request costs: a row or a few; a search through the record; a commit; a message to somebody's server."""

    READ = "read"
    SEARCH = "search"
    CHANGE = "change"
    OUTBOUND = "outbound"
    STREAM = "stream"


_WHAT: Mapping[Cost, str] = {
    Cost.READ: "reading requests",
    Cost.SEARCH: "requests for lists, metrics and trials",
    Cost.CHANGE: "requests for changes",
    Cost.OUTBOUND: "tests and verifications",
    Cost.STREAM: "requests for streams",
}


class Quota(Struct, frozen=True, kw_only=True):
    """`burst` requests in a row, `rate` more a second, no more than `at_once` being answered; None bounds nothing."""

    rate: float
    burst: int
    at_once: int | None = None


class _Use(Struct):
    left: float
    seen: float
    open: int = 0


class Quotas:
    """Who has used how much. A tenant that asks for nothing is forgotten. Times are seconds of `now`, any clock's."""

    def __init__(self, limits: Mapping[Cost, Quota], now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now = now
        self._uses: dict[tuple[str, Cost], _Use] = {}

    @contextmanager
    def taken(self, tenant_id: str, cost: Cost) -> Iterator[None]:
        """While a request of the tenant is answered. Raises TooMany."""
        use = self._charged(tenant_id, cost, self._limits[cost])
        use.open += 1
        try:
            yield
        finally:
            use.open -= 1

    def _charged(self, tenant_id: str, cost: Cost, quota: Quota) -> _Use:
        now = self._now()
        use = self._uses.get((tenant_id, cost)) or self._begun(tenant_id, cost, quota, now)
        use.left = min(quota.burst, use.left + (now - use.seen) * quota.rate)
        use.seen = now
        if quota.at_once is not None and use.open >= quota.at_once:
            limit = {"limit": quota.at_once, "remaining": 0}
            raise TooMany(f"at most {quota.at_once} {_WHAT[cost]} of a tenant at a time", limit, retry_after=1)
        if use.left < 1:
            words = f"at most {quota.burst} {_WHAT[cost]} of a tenant in a row and {quota.rate:g} a second"
            again = math.ceil((1 - use.left) / quota.rate)
            raise TooMany(words, {"limit": quota.burst, "remaining": 0}, retry_after=again)
        use.left -= 1
        return use

    def _begun(self, tenant_id: str, cost: Cost, quota: Quota, now: float) -> _Use:
        if len(self._uses) >= _REMEMBERED:
            self._uses = {key: use for key, use in self._uses.items() if not self._is_rested(key[1], use, now)}
        use = self._uses[tenant_id, cost] = _Use(left=quota.burst, seen=now)
        return use

    def _is_rested(self, cost: Cost, use: _Use, now: float) -> bool:
        """Whether it makes no difference to forget it."""
        quota = self._limits[cost]
        return not use.open and use.left + (now - use.seen) * quota.rate >= quota.burst
