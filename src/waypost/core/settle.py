"""THE decision: what becomes of a delivery after one attempt."""

from __future__ import annotations

from msgspec import Struct

from waypost.core.model import SECOND, Delivery, DeliveryState, Micros, Outcome
from waypost.core.retry import RetryPolicy


class Settlement(Struct, frozen=True, kw_only=True, gc=False):
    """How to go on after an attempt: the delivery's new state, its next attempt's number and when that is due."""

    state: DeliveryState
    next_attempt: int
    retries: int
    due: Micros | None


INTERRUPTED = "interrupted"
"""The code of an attempt that Waypost itself cut off. Nobody's failure: it is not counted against the destination."""


def interrupted(delivery: Delivery, *, now: Micros) -> Settlement:
    """The same again at once, and none of its retries is spent: Waypost stopped before an answer came."""
    return Settlement(state=DeliveryState.PENDING, next_attempt=delivery.attempt + 1, retries=delivery.retries, due=now)


def settle(delivery: Delivery, outcome: Outcome, policy: RetryPolicy, *, now: Micros, jitter: float) -> Settlement:
    """Decide from the attempt's outcome. `jitter` is drawn from [0, 1) by the caller, `now` is when the attempt ended.

    A manual attempt stands outside the automatic schedule: when it fails, the schedule goes on from its next step.
    """
    attempted = delivery.attempt + 1
    if outcome.ok:
        return Settlement(state=DeliveryState.DELIVERED, next_attempt=attempted, retries=delivery.retries, due=None)
    wait = None
    if delivery.event.eligible_for_retry and policy.worth_a_retry(outcome.code, retryable=outcome.retryable):
        wait = policy.wait(delivery.retries, jitter=jitter, retry_after=outcome.retry_after)
    if wait is None:
        return Settlement(state=DeliveryState.EXHAUSTED, next_attempt=attempted, retries=delivery.retries, due=None)
    return Settlement(
        state=DeliveryState.PENDING,
        next_attempt=attempted,
        retries=delivery.retries + 1,
        due=now + round(wait * SECOND),
    )
