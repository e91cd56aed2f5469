"""What a store has to do for alerts and for the audit log; a part of `waypost.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from waypost.core.alerts import Audience, Channel, Kind, Rule, Severity
from waypost.core.health import Health
from waypost.core.model import Actor, Attempt, Destination, Event, Micros
from waypost.store.paging import Page, Slice, TimeRange


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the audit log: who did what to which thing. `detail` names what was changed and holds no secrets.

    `action` is a noun and a verb (`destination.update`), `subject` the id of the thing. The store gives it its `seq`.
    """

    actor: Actor
    action: str
    tenant_id: str | None
    subject: str
    detail: dict[str, Any] = {}
    seq: int = 0


class EntryQuery(Struct, frozen=True, kw_only=True):
    """Conditions on the audit log; an empty tuple means "any"."""

    tenant_ids: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    time: TimeRange = TimeRange()


class Occurrence(Struct, frozen=True, kw_only=True):
    """The attempt that an alert or a piece of news is about, with its event and destination as they stand on record."""

    attempt: Attempt
    event: Event
    destination: Destination
    next_due: Micros | None


class Alert(Struct, frozen=True, kw_only=True):
    """An alert on record. `data` is what is special to its kind. `tenant_id` is None for alerts about the server."""

    seq: int
    kind: Kind
    topic: str
    severity: Severity
    audience: Audience
    rule_id: str
    tenant_id: str | None
    destination_id: str | None
    data: dict[str, Any]
    occurrence: Occurrence | None = None
    acknowledged_at: Micros | None = None
    acknowledged_by: str | None = None


class AlertQuery(Struct, frozen=True, kw_only=True):
    """Conditions on alerts; an empty tuple means "any". `by_tenant` leaves out what is the operator's alone."""

    seqs: tuple[int, ...] = ()
    tenant_ids: tuple[str, ...] = ()
    destination_ids: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    acknowledged: bool | None = None
    by_tenant: bool = False
    time: TimeRange = TimeRange()


class News(Struct, frozen=True, kw_only=True):
    """Something to tell a channel, taken under a lease: an alert, an attempt, or `data` of its own.

    `seq` is its own number, `tries` how often it has been tried before.
    """

    seq: int
    channel: Channel
    topic: str
    tenant_id: str | None
    tries: int
    alert: Alert | None = None
    occurrence: Occurrence | None = None
    data: dict[str, Any] | None = None


class ChannelState(Struct, frozen=True, kw_only=True):
    """How a channel is doing: what waits for it, when something last arrived, and the last failure since."""

    waiting: int = 0
    sent_at: Micros | None = None
    failed_at: Micros | None = None
    error: str | None = None


class Census(Struct, frozen=True, kw_only=True):
    """Living destinations: enabled, disabled, and enabled but failing."""

    enabled: int
    disabled: int
    failing: int


class AlertStore(Protocol):
    """Rules, channels, alerts, what is to be told, and the audit log."""

    async def rules(self) -> tuple[Rule, ...]:
        """The stored rules by creation; those of the settings are not among them."""
        ...

    async def add_rule(self, rule: Rule, entry: Entry) -> Rule:
        """Raises BadRequest when its owner has a rule of the kind for the same place."""
        ...

    async def replace_rule(self, rule: Rule, entry: Entry) -> bool: ...

    async def delete_rule(self, no: int, entry: Entry) -> bool: ...

    async def channels(self) -> tuple[Channel, ...]:
        """By creation."""
        ...

    async def add_channel(self, channel: Channel, entry: Entry, *, limit: int) -> Channel:
        """Raises BadRequest when the owner has one of that name, or `limit` of them already."""
        ...

    async def replace_channel(self, channel: Channel, entry: Entry) -> Channel | None:
        """Store a changed channel under the next version. None when it is gone or at another version by now.

        What waited for one that is disabled or muted by this is dropped.
        """
        ...

    async def delete_channel(self, no: int, entry: Entry) -> bool:
        """Remove it; what waited for it is dropped."""
        ...

    async def channel_states(self, nos: Sequence[int]) -> Mapping[int, ChannelState]:
        """By the channels' numbers."""
        ...

    async def alerts(self, query: AlertQuery, page: Page) -> Slice[Alert]:
        """Ordered by number (`seq`), which is time."""
        ...

    async def acknowledge(self, seq: int, entry: Entry, *, now: Micros) -> bool:
        """Idempotent: the first acknowledgement stays. False for an unknown alert."""
        ...

    async def news_waiting(self) -> list[tuple[int, Micros]]:
        """For each channel with something to be told: its number and when the earliest is due."""
        ...

    async def claim_news(self, channel_no: int, *, now: Micros, lease_until: Micros, limit: int) -> tuple[News, ...]:
        """Lease what is due for a channel, oldest first."""
        ...

    async def news_told(self, seq: int, *, now: Micros) -> None:
        """It has arrived."""
        ...

    async def news_put_off(self, seq: int, reason: str, *, until: Micros) -> None:
        """It has not been tried; try then. The channel says why."""
        ...

    async def charge_message(self, tenant_id: str, *, most: int, now: Micros) -> bool:
        """Take one message from what a tenant's channels may send within this hour; False when none is left."""
        ...

    async def news_failed(self, seq: int, error: str, *, now: Micros, due: Micros | None) -> None:
        """It has not; try again at `due`, or never."""
        ...

    async def observe_backlog(self, age: float, *, now: Micros) -> bool:
        """Look at how long the oldest due delivery has waited (seconds). True when that raised an alert."""
        ...

    async def raise_about_the_whole(self, kind: Kind, data: dict[str, Any], *, recovered: bool) -> None:
        """Put an alert about the server on record that its channels have been told of already."""
        ...

    async def health(self, destination_no: int) -> Health: ...

    async def census(self) -> Census: ...

    async def due_probes(self, now: Micros) -> list[int]:
        """Disabled destinations of which one delivery is to be tried now."""
        ...

    async def put_probe_off(self, destination_no: int, until: Micros) -> None:
        """There was nothing to try, or a trial is under way: look again then."""
        ...

    async def audit(self, entry: Entry) -> None:
        """For what changes nothing else in the store."""
        ...

    async def audit_log(self, query: EntryQuery, page: Page) -> Slice[Entry]:
        """Ordered by number (`seq`), which is time."""
        ...
