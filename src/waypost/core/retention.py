"""How long things are kept: the server's own lifetimes, and those of tenants that have others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from waypost.core import ids
from waypost.core.model import SECOND, Micros

LONGEST = 315_360_000
"""Ten years in seconds."""


class Kept(StrEnum):
    """What is kept for a time that tenants may have of their own."""

    EVENTS = "events"
    """An event with its deliveries and attempts."""
    ATTEMPTS = "attempts"
    DATA = "data"
    """What an event holds and what was sent and answered; that there was an event stays on record."""


class Lifetimes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """In seconds; 0 is for ever, None as long as the server keeps it. Nothing is kept longer than its event."""

    events: int | None = None
    attempts: int | None = None
    data: int | None = None

    def over(self, default: Lifetimes) -> Lifetimes:
        """What holds for a tenant whose own lifetimes these are."""
        chosen = {kind: _first(getattr(self, kind), getattr(default, kind)) for kind in Kept}
        longest = chosen[Kept.EVENTS]
        return Lifetimes(**{kind: _shorter(seconds, longest) for kind, seconds in chosen.items()})


class Walk(Struct, frozen=True, kw_only=True):
    """A walk along the record, oldest first, that takes what has outlived one lifetime.

    `tenants` are those whose things are kept that long, or, when `others` is set, those whose things are not.
    """

    kind: Kept
    seconds: int
    tenants: frozenset[str]
    others: bool

    def takes(self, tenant_id: str) -> bool:
        return (tenant_id in self.tenants) is not self.others

    def before(self, now: Micros) -> int:
        """The first number that is too young."""
        return ids.bound(now - self.seconds * SECOND)


def walks(default: Lifetimes, own: Mapping[str, Lifetimes]) -> Iterator[Walk]:
    """One walk for each kind and lifetime. What is kept as long as its event needs none."""
    usual = Lifetimes().over(default)
    of_tenant = {tenant_id: lifetimes.over(default) for tenant_id, lifetimes in own.items()}
    for kind in Kept:
        tenants: defaultdict[int, set[str]] = defaultdict(set)
        for tenant_id, kept in of_tenant.items():
            tenants[_alone(kept, kind)].add(tenant_id)
        tenants.pop(_alone(usual, kind), None)
        if seconds := _alone(usual, kind):
            yield Walk(kind=kind, seconds=seconds, tenants=frozenset().union(*tenants.values()), others=True)
        for seconds in sorted(tenants.keys() - {0}):
            yield Walk(kind=kind, seconds=seconds, tenants=frozenset(tenants[seconds]), others=False)


def _alone(kept: Lifetimes, kind: Kept) -> int:
    """How long something is kept by itself; 0 when that is no shorter than its event."""
    seconds: int = getattr(kept, kind)
    return 0 if kind is not Kept.EVENTS and seconds == kept.events else seconds


def _first(own: int | None, default: int | None) -> int:
    return own if own is not None else default or 0


def _shorter(seconds: int, longest: int) -> int:
    return min(seconds, longest) if seconds and longest else seconds or longest
