"""Who wants what, in memory: every tenant's destinations with their subscriptions compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.core import topics
from waypost.core.filters import DEFAULT_LIMITS, Document, FilterError, FilterLimits, compile_filter
from waypost.core.model import Destination
from waypost.core.routing import AnySubscription, Filter, Route
from waypost.store.base import Store

Routes = tuple[Route, ...]
_ROUTED_BY = frozenset({"topics", "filter", "subscriptions"})


class _NothingPasses:
    def __init__(self, why: str) -> None:
        self._why = why

    def passes(self, document: Document) -> bool:
        return False

    def explain(self, document: Document) -> str:
        return f"the filter cannot be used: {self._why}"


class Directory:
    """A cache over the store. `forget` after a change makes the next look-up read the committed state.

    `changes` counts them, so that whoever acts on a look-up a while later can tell whether it still stands.
    """

    def __init__(self, store: Store, limits: FilterLimits = DEFAULT_LIMITS, *, most_tenants: int = 100_000) -> None:
        self._store = store
        self._limits = limits
        self._most_tenants = most_tenants
        self._routes: dict[str, Routes] = {}
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
        destinations = await self._store.destinations(tenant_id)
        routes = tuple(Route.of(destination, self._wanted(destination)) for destination in destinations)
        if before == self.changes and routes:  # a change meanwhile may have been missed; unknown tenants take no room
            self._remember(tenant_id, routes)
        return routes

    def forget(self, tenant_id: str) -> None:
        self.changes += 1
        self._routes.pop(tenant_id, None)

    def _wanted(self, destination: Destination) -> Filter | None:
        """What the destination asks of the content of events; None when it asks nothing."""
        unknown = _ROUTED_BY.intersection(destination.damaged)
        if unknown:
            return _NothingPasses(f"{', '.join(sorted(unknown))} cannot be read")
        if not destination.subscriptions:
            return self._compiled(destination.filter)
        return AnySubscription(
            [(topics.matcher(each.topics), self._compiled(each.filter)) for each in destination.subscriptions]
        )

    def _compiled(self, filter_: Mapping[str, Any] | None) -> Filter | None:
        """The compiled filter; for one that today's limits no longer allow, a filter that nothing passes."""
        if not filter_:
            return None
        try:
            return compile_filter(filter_, limits=self._limits)
        except FilterError as error:
            return _NothingPasses(str(error))

    def _remember(self, tenant_id: str, routes: Routes) -> None:
        if len(self._routes) >= self._most_tenants:
            del self._routes[next(iter(self._routes))]
        self._routes[tenant_id] = routes
