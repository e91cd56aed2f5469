"""The words for where deliveries stand."""

from __future__ import annotations

import pytest

from waypost.core.model import DeliveryState
from waypost.core.status import Status, status_of


@pytest.mark.parametrize(
    ("state", "attempt", "leased", "expected"),
    [
        (DeliveryState.PENDING, 1, False, "pending"),
        (DeliveryState.PENDING, 2, False, "retrying"),
        (DeliveryState.PENDING, 1, True, "delivering"),
        (DeliveryState.PENDING, 5, True, "delivering"),
        (DeliveryState.DELIVERED, 2, False, "delivered"),
        (DeliveryState.EXHAUSTED, 11, False, "exhausted"),
        (DeliveryState.CANCELLED, 1, False, "cancelled"),
        (DeliveryState.KEPT, 1, False, "disabled"),
    ],
)
def test_the_status_of_a_delivery(state: DeliveryState, attempt: int, leased: bool, expected: str) -> None:
    assert status_of(state, attempt=attempt, leased=leased) == expected


def test_every_state_has_a_status() -> None:
    assert {status_of(state, attempt=1, leased=False) for state in DeliveryState} < set(Status)
