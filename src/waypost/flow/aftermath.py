"""What delivering leads to, beyond the delivery: alerts to be told, destinations disabled or enabled."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from waypost.core.incarnations import id_of
from waypost.core.model import Destination
from waypost.flow import clock
from waypost.flow.notify import Notifier
from waypost.flow.throttle import Sparing
from waypost.observe.metrics import Metrics
from waypost.store.base import Recorded, Store

_log = structlog.get_logger("waypost")
_COUNTING_SHARE = 0.01
"""Of the time, for counting destinations."""
_WORTH_A_LOOK = 1.0
"""Seconds that a due delivery may wait without anybody looking at the rule about it."""


class Aftermath:
    """Listens to the dispatcher.

    `changed` hears the tenant's id and the number of a destination that was disabled or enabled.
    """

    def __init__(self, store: Store, notifier: Notifier, metrics: Metrics, changed: Callable[[str, int], None]) -> None:
        self._store = store
        self._notifier = notifier
        self._metrics = metrics
        self._changed = changed
        self._census = Sparing(store.alerting.census, share=_COUNTING_SHARE)
        self._waited = True  # a backlog may stand from before a restart

    def recorded(self, destination: Destination, recorded: Recorded) -> None:
        for kind, severity in recorded.raised:
            self._metrics.alert_raised(kind, severity)
            _log.info("alert", kind=kind, severity=severity, **_names(destination))
        if recorded.disabled is not None:
            self._metrics.destination_disabled(recorded.disabled)
            _log.warning("destination_disabled", reason=recorded.disabled, **_names(destination))
        if recorded.enabled:
            _log.info("destination_enabled", reason="a trial delivery succeeded", **_names(destination))
        if recorded.disabled is not None or recorded.enabled:
            self._changed(destination.tenant_id, destination.no)
        if recorded.news:
            self._notifier.ring()

    async def swept(self, oldest_age: float) -> None:
        census = await self._census.answer()
        self._metrics.destinations(enabled=census.enabled, disabled=census.disabled, failing=census.failing)
        waits = oldest_age > _WORTH_A_LOOK
        if waits or self._waited:
            if await self._store.alerting.observe_backlog(oldest_age, now=clock.now()):
                self._notifier.ring()
            self._waited = waits


def _names(destination: Destination) -> dict[str, str]:
    return {"tenant_id": id_of(destination.tenant_id), "destination_id": destination.id}
