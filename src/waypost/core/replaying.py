"""Which deliveries of an event a replay makes, and why it leaves others out (specification, section 4.2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct, structs

from waypost.core.filters import DEFAULT_LIMITS, FilterLimits
from waypost.core.model import Actor, Event
from waypost.core.routing import Route, route
from waypost.core.status import Status

LEFT_OUT = (
    "no_delivery",
    "expunged",
    "deleted",
    "disabled",
    "limit",
    "topic",
    "filter",
    "filter_cost",
    "not_addressed",
    "cancelled",
)
"""Why a replay does not make a delivery."""


class Limits(Struct, frozen=True, kw_only=True):
    """How much may be sent again by hand; None is without end.

    `per_event` counts manual attempts to deliver one event, `per_hour` a tenant's events, `events` those of one replay,
    `running` a tenant's replays at one time.
    """

    per_event: int = 100
    per_hour: int | None = 100_000
    events: int = 1_000_000
    running: int | None = 3

    def of(self, actor: Actor) -> Limits:
        """Those that hold for somebody: what is counted by tenant binds only the tenants themselves."""
        return self if actor.kind == "tenant" else structs.replace(self, per_hour=None, running=None)


class Wanted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which deliveries of the selected events are made again.

    Those to one destination, or to any of these ids, that stand so; what is empty says nothing. `missed`: the one
    destination gets also what it never got, if its topics and filter let it pass now.
    """

    destination_no: int | None = None
    destination_ids: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    missed: bool = False


class Standing(NamedTuple):
    """How an event's deliveries stand, by destination number, and how often it was sent again by hand."""

    statuses: Mapping[int, Status] = {}
    retried: int = 0


class Plan(NamedTuple):
    """The destinations that get the event again, and a reason for each delivery that is left out."""

    send: tuple[int, ...]
    left_out: tuple[str, ...]


def plan(
    event: Event,
    standing: Standing,
    wanted: Wanted,
    routes: Mapping[int, Route],
    *,
    per_event: int,
    filters: FilterLimits = DEFAULT_LIMITS,
) -> Plan:
    """Decide about one event. `routes` are those of its tenant by destination number."""
    targets = _targets(standing, wanted, routes)
    if not targets:
        return Plan((), ("no_delivery",))
    reasons = {no: _why_not(event, standing, no, routes, per_event, filters) for no in targets}
    return Plan(
        tuple(no for no, reason in reasons.items() if reason is None),
        tuple(reason for reason in reasons.values() if reason is not None),
    )


def _targets(standing: Standing, wanted: Wanted, routes: Mapping[int, Route]) -> list[int]:
    found = [
        no
        for no, status in standing.statuses.items()
        if wanted.destination_no in {None, no}
        and (not wanted.statuses or status in wanted.statuses)
        and (not wanted.destination_ids or no not in routes or routes[no].destination.id in wanted.destination_ids)
    ]
    if wanted.missed and wanted.destination_no is not None and wanted.destination_no not in standing.statuses:
        found.append(wanted.destination_no)
    return found


def _why_not(
    event: Event, standing: Standing, no: int, routes: Mapping[int, Route], per_event: int, filters: FilterLimits
) -> str | None:
    to = routes.get(no)
    if event.expunged_at is not None:
        return "expunged"
    if to is None:
        return "deleted"
    if to.destination.disabled_at is not None:
        return "disabled"
    if standing.retried >= per_event:
        return "limit"
    if no in standing.statuses:
        return None if to.covers(event.topic) else "topic"
    skipped = route(event, (to,), filters).skipped
    return skipped[0].reason if skipped else None
