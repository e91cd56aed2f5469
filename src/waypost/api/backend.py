"""What the HTTP skin stands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from waypost.connect.registry import Registry
from waypost.core.model import Actor, Destination, Micros
from waypost.flow.access import Access
from waypost.flow.alerting import Alerting
from waypost.flow.catalogue import Catalogue
from waypost.flow.errands import Errands
from waypost.flow.expunge import Expunger
from waypost.flow.live import Live
from waypost.flow.manage import Manager
from waypost.flow.metering import Metering
from waypost.flow.notices import Writer
from waypost.flow.probe import Prober
from waypost.flow.quotas import Quotas
from waypost.flow.replays import Replays
from waypost.flow.retention import Janitor
from waypost.flow.skips import SkipCounts
from waypost.settings import Settings
from waypost.store.base import Store
from waypost.store.deliveries import StoredDelivery


class Retry(Protocol):
    """Makes one manual attempt due now.

    `tenant_id` bounds what the caller may see; None is everything. Raises NotFound for an unknown event or destination,
    BadRequest for a destination that is disabled or does not match.
    """

    async def __call__(self, event_id: str, destination_id: str, tenant_id: str | None, *, by: Actor) -> None: ...


class Recover(Protocol):
    """Makes what was kept for a destination since then due now; how much that is. Raises BadRequest if disabled."""

    async def __call__(self, destination: Destination, since: Micros, *, by: Actor) -> int: ...


class Cancel(Protocol):
    """Calls a delivery off; see `waypost.flow.deliveries.Canceller`."""

    async def __call__(
        self, event_seq: int, destination_no: int, tenant_id: str | None, *, by: Actor
    ) -> StoredDelivery: ...


class Backend(Struct, frozen=True, kw_only=True):
    """The parts of a running Waypost that requests are answered from.

    `health`, `liveness` and `readiness` give workers' states, True for healthy; `metrics` the Prometheus exposition.
    """

    store: Store
    manager: Manager
    catalogue: Catalogue
    skips: SkipCounts
    access: Access
    quotas: Quotas
    registry: Registry
    settings: Settings
    retry: Retry
    probe: Prober
    recover: Recover
    cancel: Cancel
    replays: Replays
    alerting: Alerting
    metering: Metering
    live: Live
    janitor: Janitor
    expunger: Expunger
    writer: Writer
    errands: Errands
    health: Callable[[], Mapping[str, bool]]
    liveness: Callable[[], Mapping[str, bool]]
    readiness: Callable[[], Awaitable[Mapping[str, bool]]]
    metrics: Callable[[], bytes]
