from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import NOW, delivery, destination, event, outcome
from waypost.core.model import SECOND, DeliveryState
from waypost.core.retry import RetryPolicy
from waypost.core.settle import interrupted, settle

TO = destination(no=1)


@given(st.integers(1, 100), st.integers(0, 20), st.booleans(), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_every_outcome_moves_the_delivery_on(attempt: int, retries: int, ok: bool, manual: bool, jitter: float) -> None:
    made = delivery(event(), TO, attempt=attempt, retries=retries, manual=manual)
    then = settle(made, outcome(ok=ok, code="200" if ok else "503"), RetryPolicy(), now=NOW, jitter=jitter)
    assert then.next_attempt == attempt + 1
    if ok:
        assert (then.state, then.due, then.retries) == (DeliveryState.DELIVERED, None, retries)
    elif retries >= 10:
        assert (then.state, then.due, then.retries) == (DeliveryState.EXHAUSTED, None, retries)
    else:
        assert (then.state, then.retries) == (DeliveryState.PENDING, retries + 1)
        assert then.due is not None
        assert then.due > NOW


def test_an_event_not_eligible_for_retry_gets_one_attempt() -> None:
    made = delivery(event(eligible_for_retry=False), TO)
    then = settle(made, outcome(ok=False, code="503"), RetryPolicy(), now=NOW, jitter=0)
    assert then.state is DeliveryState.EXHAUSTED


def test_what_cannot_be_mended_by_waiting_is_not_retried() -> None:
    made, gone = delivery(event(), TO), outcome(ok=False, code="410", retryable=False)
    assert settle(made, gone, RetryPolicy(), now=NOW, jitter=0).state is DeliveryState.EXHAUSTED
    assert settle(made, gone, RetryPolicy(retry_on="any"), now=NOW, jitter=0).state is DeliveryState.PENDING


def test_retry_after_is_honoured() -> None:
    made = delivery(event(), TO)
    throttled = outcome(ok=False, code="429", retry_after=100.0)
    assert settle(made, throttled, RetryPolicy(), now=NOW, jitter=0).due == NOW + 100 * SECOND


def test_an_attempt_that_was_cut_off_costs_no_retry() -> None:
    then = interrupted(delivery(event(), TO, attempt=3, retries=2), now=NOW)
    assert (then.state, then.next_attempt, then.retries, then.due) == (DeliveryState.PENDING, 4, 2, NOW)
