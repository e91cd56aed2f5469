"""One attempt: the warm connection, the send, the outcome, and what follows from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

import structlog
from msgspec import Struct

from waypost.connect.connector import TEMPLATE_STEPS, Connection, Message, Receipt, Tools
from waypost.connect.registry import Registry
from waypost.core.causes import causes_of, own_trouble
from waypost.core.errors import DeliveryError, MissingExtra, SettingsError, Unavailable, WaypostError
from waypost.core.keeping import Keeping
from waypost.core.message import merged_metadata
from waypost.core.model import Delivery, Destination, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.settle import INTERRUPTED, interrupted, settle
from waypost.flow import clock
from waypost.flow.lanes import Lane, Warm
from waypost.net.shares import on_behalf_of
from waypost.observe.tracing import NullTracer, Tracer
from waypost.store.base import Result

_log = structlog.get_logger("waypost")


class Attempts(Struct, frozen=True, kw_only=True):
    """Makes attempts. `timeout` bounds each of them, in seconds, whatever the destination type does.

    `keeping` bounds what receivers say of them.
    `template_steps` bounds what a template does with a message.
    """

    registry: Registry
    tools: Tools
    policy: RetryPolicy
    sequence: clock.Sequence
    timeout: float
    tracer: Tracer = NullTracer()
    keeping: Keeping = Keeping()
    template_steps: int = TEMPLATE_STEPS

    async def make(self, lane: Lane, delivery: Delivery) -> Result:
        """Send the delivery and decide what becomes of it. Never raises for anything that the destination does.

        Raises Unavailable when the attempt could not be made for want of something that is ours or the operator's: a
        descriptor, a library, a setting. That is nobody's failed attempt.
        """
        return await self.tracer.attempt(delivery, lane.destination, partial(self._make, lane))

    async def _make(self, lane: Lane, delivery: Delivery) -> Result:
        destination, seq = lane.destination, self.sequence.next()
        outcome = self.keeping.bounded(await self._send(lane, delivery))
        policy = self.policy_of(destination)
        ended = outcome.started_at + outcome.latency
        settlement = settle(delivery, outcome, policy, now=ended, jitter=clock.jitter())
        return Result(
            seq=seq, delivery=delivery, destination_type=destination.type, outcome=outcome, settlement=settlement
        )

    def policy_of(self, destination: Destination) -> RetryPolicy:
        own = destination.retry_policy
        return self.policy.overridden(own) if own else self.policy

    def cut_off(self, lane: Lane, delivery: Delivery, started_at: Micros) -> Result:
        """What is put on record of an attempt that a stop of the server breaks off."""
        now = clock.now()
        outcome = Outcome(
            ok=False,
            code=INTERRUPTED,
            started_at=started_at,
            latency=max(0, now - started_at),
            detail="Waypost was stopped before the answer came: it may have arrived, and is sent again",
        )
        return Result(
            seq=self.sequence.next(),
            delivery=delivery,
            destination_type=lane.destination.type,
            outcome=outcome,
            settlement=interrupted(delivery, now=now),
        )

    async def _send(self, lane: Lane, delivery: Delivery) -> Outcome:
        started_at, began = clock.now(), time.perf_counter_ns()
        on_behalf_of.set(lane.destination.tenant_id)
        try:
            async with asyncio.timeout(self.timeout):
                receipt = await self._hand_over(lane, delivery, started_at)
        except TimeoutError:
            late = DeliveryError("timeout", f"the attempt took longer than {self.timeout:g} s")
            return _failure(late, started_at, began)
        except DeliveryError as error:
            put_off_if_ours(error)
            return _failure(error, started_at, began, causes_of(error.__cause__, _secrets(lane)))
        except WaypostError as error:
            put_off_if_ours(error)
            return _failure(DeliveryError("configuration_error", str(error)), started_at, began)
        except Exception as error:  # noqa: BLE001  a fault in a destination type fails the attempt, not the worker
            put_off_if_ours(error)
            _log.exception("attempt_crashed", destination_type=lane.destination.type)
            crash = DeliveryError("internal_error", f"the destination type failed: {type(error).__name__}")
            return _failure(crash, started_at, began, causes_of(error, _secrets(lane)))
        return Outcome(
            ok=True,
            code=receipt.code,
            started_at=started_at,
            latency=_micros_since(began),
            request=receipt.request,
            response=receipt.response,
        )

    async def _hand_over(self, lane: Lane, delivery: Delivery, started_at: Micros) -> Receipt:
        message = Message(
            event=delivery.event,
            metadata=merged_metadata(delivery.event, lane.destination.delivery_metadata, sent_at=started_at),
            attempt=delivery.attempt,
            manual=delivery.manual,
            sent_at=started_at,
            template_steps=self.template_steps,
        )
        _refuse_damaged(lane.destination)
        warm = lane.warm or await self._connect(lane)
        warm.sends += 1
        try:
            return await warm.connection.send(message)
        finally:
            warm.sends -= 1
            if warm.retired:
                await warm.close_when_idle()

    async def _connect(self, lane: Lane) -> Warm:
        """Open the lane's connection; of several that open one at once, the first to finish is kept."""
        destination = lane.destination
        kind = self.registry.get(destination.type)
        if kind is None:
            raise Unavailable(f"this Waypost has no destination type {destination.type}", reason="missing_extra")
        opened: Connection = await kind.connect(destination, self.tools)
        if lane.warm is None and lane.destination is destination:
            lane.warm = Warm(opened)
            return lane.warm
        await opened.close()
        return lane.warm or await self._connect(lane)


def put_off_if_ours(error: Exception) -> None:
    """Raises Unavailable when what failed is ours, or the operator's to mend, and not the destination's."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, MissingExtra | SettingsError):
        reason = "missing_extra" if isinstance(error, MissingExtra) else "configuration"
        raise Unavailable(str(error), reason=reason) from error
    reason_behind = own_trouble(error)
    if reason_behind is not None:
        raise Unavailable(f"the process is out of {reason_behind}: {error}", reason=reason_behind) from error


def _micros_since(began: int) -> int:
    return (time.perf_counter_ns() - began) // 1000


def _secrets(lane: Lane) -> Iterable[str]:
    return lane.destination.credentials.values()


def _failure(error: DeliveryError, started_at: Micros, began: int, causes: tuple[str, ...] = ()) -> Outcome:
    return Outcome(
        ok=False,
        code=error.code,
        started_at=started_at,
        latency=_micros_since(began),
        detail=error.sentence,
        retryable=error.retryable,
        retry_after=error.retry_after,
        request=error.request,
        response=error.response,
        causes=causes,
    )


def _refuse_damaged(to: Destination) -> None:
    """Raise Unavailable for a destination that cannot be read whole: its deliveries wait until it is saved anew."""
    if to.damaged:
        raise Unavailable(f"{', '.join(to.damaged)} of the destination {to.id} cannot be read: save them anew")
