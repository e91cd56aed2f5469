"""Who wants what, in memory: every tenant's destinations with their subscriptions compiled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from waypost.core import topics
from waypost.core.filters import DEFAULT_LIMITS, Document, FilterError, FilterLimits, compile_filter
from waypost.core.model import Destination
from waypost.core.routing import AnySubscription, Filter, Route
from waypost.flow.filtering import beside
from waypost.store.base import Store

Routes = tuple[Route, ...]
_ROUTED_BY = frozenset({"topics", "filter", "subscriptions"})

_SMALL = 500
"""Filters of so many bytes are compiled at once, within a few milliseconds."""

_ENCODER = msgspec.json.Encoder(decimal_format="number")


class _NothingPasses:
    def __init__(self, why: str) -> None:
        self._why = why

    def passes(self, document: Document, steps: int | None = None) -> bool:
        return False

    def explain(self, document: Document, steps: int | None = None) -> str:
        return f"the filter cannot be used: {self._why}"


class Directory:
    """A cache over the store. `forget` after a change makes the next look-up read the committed state.

    `changes` counts them, so that whoever acts on a look-up a while later can tell whether it still stands.
    """

    def __init__(self, store: Store, limits: FilterLimits = DEFAULT_LIMITS, *, most_tenants: int = 100_000) -> None:
        self._store = store
        self.limits = limits
        self._most_tenants = most_tenants
        self._routes: dict[str, Routes] = {}
        self._compiled: dict[str, dict[bytes, Filter]] = {}
        self.changes = 0

    def known(self, tenant_id: str) -> Routes | None:
        """The tenant's routes if they are in memory."""
        return self._routes.get(tenant_id)

    async def routes(self, tenant_id: str) -> Routes:
        """The tenant's routes, read from the store when they are not in memory. Empty for an unknown tenant."""
        known = self._routes.get(tenant_id)
        if known is not None:
            return known
        before = self.changes
        workshop = _Workshop(self.limits, self._compiled.get(tenant_id, {}))
        destinations = await self._store.destinations(tenant_id)
        routes = tuple([Route.of(destination, await workshop.wanted(destination)) for destination in destinations])
        self._keep(tenant_id, workshop.used)
        if before == self.changes and routes:  # a change meanwhile may have been missed; unknown tenants take no room
            self._remember(tenant_id, routes)
        return routes

    def forget(self, tenant_id: str) -> None:
        self.changes += 1
        self._routes.pop(tenant_id, None)

    def _remember(self, tenant_id: str, routes: Routes) -> None:
        if len(self._routes) >= self._most_tenants:
            del self._routes[next(iter(self._routes))]
        self._routes[tenant_id] = routes

    def _keep(self, tenant_id: str, compiled: dict[bytes, Filter]) -> None:
        """The filters for the next look-up, which finds most of them unchanged."""
        self._compiled.pop(tenant_id, None)
        if compiled:
            self._compiled[tenant_id] = compiled
        if len(self._compiled) > self._most_tenants:
            del self._compiled[next(iter(self._compiled))]


class _Workshop:
    """Compiles the filters of a tenant: only those that are new, and others get their turn between two."""

    def __init__(self, limits: FilterLimits, known: Mapping[bytes, Filter]) -> None:
        self._limits = limits
        self._known = known
        self.used: dict[bytes, Filter] = {}

    async def wanted(self, destination: Destination) -> Filter | None:
        """What the destination asks of the content of events; None when it asks nothing."""
        unknown = _ROUTED_BY.intersection(destination.damaged)
        if unknown:
            return _NothingPasses(f"{', '.join(sorted(unknown))} cannot be read")
        if not destination.subscriptions:
            return await self._compiled(destination.filter)
        return AnySubscription(
            [(topics.matcher(each.topics), await self._compiled(each.filter)) for each in destination.subscriptions]
        )

    async def _compiled(self, filter_: Mapping[str, Any] | None) -> Filter | None:
        if not filter_:
            return None
        key = _ENCODER.encode(filter_)
        compiled = self._known.get(key) or self.used.get(key)
        if compiled is None:
            compiled = await beside(self._made, filter_) if len(key) > _SMALL else self._made(filter_)
            await asyncio.sleep(0)
        self.used[key] = compiled
        return compiled

    def _made(self, filter_: Mapping[str, Any]) -> Filter:
        """The compiled filter; for one that today's limits no longer allow, a filter that nothing passes."""
        try:
            return compile_filter(filter_, limits=self._limits)
        except FilterError as error:
            return _NothingPasses(str(error))
