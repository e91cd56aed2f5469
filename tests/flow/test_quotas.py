"""What a tenant may ask for, by a clock that is set."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from waypost.core.errors import TooMany
from waypost.flow import quotas
from waypost.flow.quotas import Cost, Quota, Quotas


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Quotas:
    return Quotas({cost: Quota(rate=0.5, burst=3, at_once=2) for cost in Cost}, clock)


def ask(limits: Quotas, tenant_id: str = "acme", cost: Cost = Cost.CHANGE) -> None:
    with limits.taken(tenant_id, cost):
        pass


def test_a_burst_and_then_a_rate(limits: Quotas, clock: Clock) -> None:
    for _ in range(3):
        ask(limits)
    with pytest.raises(TooMany, match=r"at most 3 requests for changes .* in a row and 0\.5 a") as refused:
        ask(limits)
    assert refused.value.retry_after == 2
    clock.now += 1.9
    with pytest.raises(TooMany):
        ask(limits)
    clock.now += 0.2
    ask(limits)
    clock.now += 1_000
    for _ in range(3):
        ask(limits)
    with pytest.raises(TooMany):
        ask(limits)


def test_so_many_at_a_time(limits: Quotas) -> None:
    with ExitStack() as answering:
        for _ in range(2):
            answering.enter_context(limits.taken("acme", Cost.SEARCH))
        with pytest.raises(TooMany, match="at most 2 requests for lists, metrics and trials of a tenant at a time"):
            ask(limits, cost=Cost.SEARCH)
        ask(limits, "zeta", Cost.SEARCH)
        ask(limits, cost=Cost.READ)
    ask(limits, cost=Cost.SEARCH)


def test_a_refused_request_is_not_charged_and_a_failed_one_gives_its_place_back(limits: Quotas) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limits.taken("acme", Cost.READ):
            raise ZeroDivisionError
    for _ in range(5):
        with pytest.raises(TooMany) as refused:
            ask(limits, cost=Cost.READ)
        assert refused.value.retry_after == 2


def test_who_asks_for_nothing_is_forgotten(limits: Quotas, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "_REMEMBERED", 10)
    with limits.taken("busy", Cost.READ):
        for number in range(100):
            clock.now += 10
            ask(limits, f"tenant-{number}")
        assert len(limits._uses) <= 10
        assert ("busy", Cost.READ) in limits._uses
