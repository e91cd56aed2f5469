from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.store.builders import CUSTOMER, NOW, OPERATOR, destination, event
from waypost.core.filters import compile_filter
from waypost.core.model import SYSTEM
from waypost.core.replaying import Limits, Plan, Standing, Wanted, plan
from waypost.core.routing import Route
from waypost.core.status import Status

DELIVERED, EXHAUSTED, DISABLED = Status.DELIVERED, Status.EXHAUSTED, Status.DISABLED


def routes(**changes: Any) -> dict[int, Route]:
    """Destinations 1 to 3 of a tenant, the third with these changes."""
    made = [structs.replace(destination(destination_id=f"des_{no}"), no=no) for no in (1, 2, 3)]
    made[2] = structs.replace(made[2], **changes)
    return {each.no: Route.of(each, compile_filter(each.filter) if each.filter else None) for each in made}


def planned(standing: Standing, wanted: Wanted | None = None, of: Any = None, **changes: Any) -> Plan:
    return plan(of or event(), standing, wanted or Wanted(), routes(**changes), per_event=10)


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (Wanted(), (1, 2, 3)),
        (Wanted(destination_no=2), (2,)),
        (Wanted(destination_ids=("des_1", "des_3")), (1, 3)),
        (Wanted(statuses=(EXHAUSTED, DISABLED)), (2, 3)),
        (Wanted(destination_no=2, statuses=(DELIVERED,)), ()),
        (Wanted(destination_no=1, missed=True), (1,)),
    ],
)
def test_what_is_wanted_is_sent(wanted: Wanted, sent: tuple[int, ...]) -> None:
    made = planned(Standing({1: DELIVERED, 2: EXHAUSTED, 3: DISABLED}), wanted)
    assert made == (sent, () if sent else ("no_delivery",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disabled_at": NOW}, "disabled"),
        ({"topics": ("user.*",)}, "topic"),
        ({"filter": {"data": {"amount": 1}}}, None),
    ],
)
def test_why_a_delivery_is_left_out(changes: dict[str, Any], reason: str | None) -> None:
    made = planned(Standing({1: DELIVERED, 3: DELIVERED}), **changes)
    assert made == ((1, 3), ()) if reason is None else ((1,), (reason,))


def test_what_is_gone_or_sent_too_often_is_left_out() -> None:
    assert planned(Standing({9: DELIVERED})).left_out == ("deleted",)
    assert planned(Standing({1: DELIVERED}, retried=10)).left_out == ("limit",)
    assert planned(Standing({1: DELIVERED}, retried=9)).send == (1,)
    assert planned(Standing({1: DELIVERED}), of=event(expunged_at=NOW)).left_out == ("expunged",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"topics": ("user.*",)}, "topic"),
        ({"filter": {"data": {"amount": 1}}}, "filter"),
        ({"disabled_at": NOW}, "disabled"),
    ],
)
def test_what_was_missed_is_routed_as_it_would_be_now(changes: dict[str, Any], reason: str | None) -> None:
    made = planned(Standing({1: DELIVERED}), Wanted(destination_no=3, missed=True), **changes)
    assert made == (((3,), ()) if reason is None else ((), (reason,)))


def test_an_event_addressed_to_another_was_not_missed() -> None:
    made = planned(Standing(), Wanted(destination_no=3, missed=True), event(destination_id="des_1"))
    assert made == ((), ("not_addressed",))


def test_what_is_counted_by_tenant_binds_tenants_alone() -> None:
    limits = Limits(per_hour=5, running=1)
    assert limits.of(CUSTOMER) == limits
    for who in (OPERATOR, SYSTEM):
        free = limits.of(who)
        assert (free.per_hour, free.running) == (None, None)
        assert (free.per_event, free.events) == (limits.per_event, limits.events)
