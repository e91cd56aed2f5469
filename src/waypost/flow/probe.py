"""Trying a destination out: are its credentials good, and does an event arrive there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from waypost.connect.connector import DestinationType, Tools
from waypost.connect.registry import Registry
from waypost.core import ids
from waypost.core.causes import own_trouble
from waypost.core.errors import BadRequest, DeliveryError, MissingExtra, Unavailable, WaypostError
from waypost.core.incarnations import id_of
from waypost.core.model import Actor, Destination, Event
from waypost.flow import clock
from waypost.flow.publish import Deliverer
from waypost.net.shares import on_behalf_of
from waypost.store.alerting import Entry
from waypost.store.base import AttemptQuery, Page, Publication, Store, StoredAttempt

_log = structlog.get_logger("waypost")

TEST_TOPIC = "waypost.test"
TEST_METADATA = {"waypost-test": "true"}
"""Travels beside a test event, so that a receiver can tell it from the platform's own."""

_FIRST_LOOK_AFTER = 0.01
_LONGEST_BETWEEN_LOOKS = 0.25


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a destination can be reached with its credentials; if not, the error's code and sentence."""

    ok: bool
    code: str | None = None
    message: str | None = None


class Trial(Struct, frozen=True, kw_only=True):
    """A test event and its first attempt; None where that has not ended within the time allowed."""

    event: Event
    attempt: StoredAttempt | None


class Prober:
    """Verifies destinations and sends test events. `timeout` bounds how long a caller waits, in seconds."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        tools: Tools,
        deliverer: Deliverer,
        next_seq: Callable[[], int],
        *,
        timeout: float,
    ) -> None:
        self._store = store
        self._registry = registry
        self._tools = tools
        self._deliverer = deliverer
        self._next_seq = next_seq
        self._timeout = timeout

    # credentials and reachability

    async def verify(self, destination: Destination, *, by: Actor) -> Verdict:
        """Connect anew with the destination's present values and let its type look around. Nothing is sent.

        Raises Unavailable when something of our own is wanting for that.
        """
        await self._write_down(destination, "destination.verify", by)
        try:
            async with asyncio.timeout(self._timeout):
                await self._look_around(destination)
        except TimeoutError:
            return _failed("timeout", f"The destination did not answer within {self._timeout:g} s")
        except Unavailable:
            raise
        except DeliveryError as error:
            _raise_if_short(error)
            return _failed(error.code, error.sentence)
        except WaypostError as error:
            return _failed("missing_extra" if isinstance(error, MissingExtra) else "configuration_error", str(error))
        except Exception as error:  # noqa: BLE001  a fault in a destination type is an answer too
            _raise_if_short(error)
            _log.exception("verify_crashed", destination_type=destination.type, destination_id=destination.id)
            return _failed("internal_error", f"The destination type failed: {type(error).__name__}")
        return Verdict(ok=True)

    async def _look_around(self, destination: Destination) -> None:
        on_behalf_of.set(destination.tenant_id)
        connection = await self._kind(destination).connect(destination, self._tools)
        try:
            await connection.verify()
        finally:
            with contextlib.suppress(Exception):
                await connection.close()

    def _kind(self, destination: Destination) -> DestinationType:
        kind = self._registry.get(destination.type)
        if kind is None:
            raise DeliveryError("unknown_type", f"This Waypost has no destination type {destination.type}")
        return kind

    # a test event

    async def test(self, destination: Destination, *, by: Actor) -> Trial:
        """Send a marked event to this destination alone and wait for its first attempt.

        It goes the way of every event: stored, dispatched, settled, put on record. The destination's topics and filter
        are not asked, since the event is meant for it; nothing is retried. Raises BadRequest for a disabled
        destination, Unavailable when the event is not on disk or something of our own is wanting to send it now.
        """
        if destination.disabled_at is not None:
            raise BadRequest("Destination is disabled")
        event = self._event(destination)
        with self._deliverer.watched(event.seq) as put_off:
            await self._publish(event, destination)
            await self._write_down(destination, "destination.test", by, event_id=event.id)
            return Trial(event=event, attempt=await self._first_attempt(event, put_off))

    async def _write_down(self, destination: Destination, action: str, by: Actor, **detail: Any) -> None:
        await self._store.alerting.audit(
            Entry(actor=by, action=action, tenant_id=destination.tenant_id, subject=destination.id, detail=detail)
        )

    def _event(self, destination: Destination) -> Event:
        seq, now = self._next_seq(), clock.now()
        data = {"test": True, "message": "A test event from Waypost", "destination_id": destination.id}
        return Event(
            seq=seq,
            id=ids.encode("evt", seq),
            tenant_id=destination.tenant_id,
            topic=TEST_TOPIC,
            time=now,
            data=msgspec.json.encode(data),
            metadata=TEST_METADATA,
            eligible_for_retry=False,
            destination_id=destination.id,
        )

    async def _publish(self, event: Event, destination: Destination) -> None:
        """Accept the event with its destination for the routing, and hand it over as publishing does."""
        lease_until = self._deliverer.admit(event, [destination])
        publication = Publication(
            event=event, matched=(destination,), skipped=(), accepted_at=event.time, lease_until=lease_until
        )
        try:
            await self._store.accept(publication)
        except BaseException:
            if lease_until is not None:
                self._deliverer.decline(event, [destination])
            raise
        if lease_until is None:
            self._deliverer.ring(destination.no, event.time)
        else:
            self._deliverer.take(event, [destination], lease_until, stale=True)
        _log.info("test", tenant_id=id_of(event.tenant_id), event_id=event.id, destination_id=destination.id)

    async def _first_attempt(self, event: Event, put_off: Sequence[Unavailable]) -> StoredAttempt | None:
        deadline, wait = time.monotonic() + self._timeout, _FIRST_LOOK_AFTER
        query = AttemptQuery(tenant_ids=(event.tenant_id,), event_ids=(event.id,))
        while True:
            found = await self._store.attempts(query, Page(limit=1))
            if found.items or time.monotonic() >= deadline:
                return found.items[0] if found.items else None
            if put_off:
                raise put_off[0]
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_BETWEEN_LOOKS)


def _raise_if_short(error: Exception) -> None:
    """Raises Unavailable when the process was short of something: that says nothing of the destination."""
    reason = own_trouble(error)
    if reason is not None:
        raise Unavailable(f"the process is out of {reason}", reason=reason) from error


def _failed(code: str, message: str) -> Verdict:
    return Verdict(ok=False, code=code, message=message)
