"""What the HTTP skin stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from waypost.connect.registry import Registry
from waypost.core.model import Actor
from waypost.flow.access import Access
from waypost.flow.manage import Manager
from waypost.flow.probe import Prober
from waypost.settings import Settings
from waypost.store.base import Store


class Retry(Protocol):
    """Makes one manual attempt due now.

    `tenant_id` bounds what the caller may see; None is everything. Raises NotFound for an unknown event or destination,
    BadRequest for a destination that is disabled or does not match.
    """

    async def __call__(self, event_id: str, destination_id: str, tenant_id: str | None, *, by: Actor) -> None: ...


class Backend(Struct, frozen=True, kw_only=True):
    """The parts of a running Waypost that requests are answered from.

    `health` gives each worker's state, True for healthy. `metrics` gives the Prometheus exposition.
    """

    store: Store
    manager: Manager
    access: Access
    registry: Registry
    settings: Settings
    retry: Retry
    probe: Prober
    health: Callable[[], Mapping[str, bool]]
    metrics: Callable[[], bytes]
