"""The words for where deliveries stand, as people ask for them."""

from __future__ import annotations

from enum import StrEnum

from waypost.core.model import DeliveryState


class Status(StrEnum):
    """`skipped` is the status of a destination that did not get an event: there is no delivery."""

    PENDING = "pending"
    """Not tried yet, and waiting."""
    DELIVERING = "delivering"
    """A worker has it now."""
    RETRYING = "retrying"
    """Tried before, and waiting for the next time."""
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    """It failed and is not tried any more."""
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    DISABLED = "disabled"
    """Kept: the destination was disabled when the event was published."""


STATES = {
    DeliveryState.DELIVERED: Status.DELIVERED,
    DeliveryState.EXHAUSTED: Status.EXHAUSTED,
    DeliveryState.CANCELLED: Status.CANCELLED,
    DeliveryState.KEPT: Status.DISABLED,
}
"""The states that are a status by themselves. A pending delivery is `pending`, `delivering` or `retrying`."""


def standing(state: DeliveryState) -> Status:
    """Where a delivery stands, whether it has been tried before or not: what waits is `pending`."""
    return STATES.get(state, Status.PENDING)


def status_of(state: DeliveryState, *, attempt: int, leased: bool) -> Status:
    """The status of a delivery; `attempt` is the number of its next attempt."""
    if state is not DeliveryState.PENDING:
        return STATES[state]
    if leased:
        return Status.DELIVERING
    return Status.PENDING if attempt == 1 else Status.RETRYING
