"""The shape of every loop: whatever a step does, there is a next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from waypost.core.errors import Unavailable
from waypost.flow import background
from waypost.flow.background import UNTIL_WOKEN, Background
from waypost.observe.metrics import PrometheusMetrics

Begin = Callable[[Callable[[], Awaitable[float | None]]], Awaitable[Background]]


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


@pytest.fixture
async def begin(monkeypatch: pytest.MonkeyPatch, metrics: PrometheusMetrics) -> AsyncIterator[Begin]:
    monkeypatch.setattr(background, "_LEAST_AFTER_A_CRASH", 0.001)
    begun: list[Background] = []

    async def one(step: Callable[[], Awaitable[float | None]]) -> Background:
        begun.append(Background("work", step, 0.001, metrics))
        await begun[-1].start()
        return begun[-1]

    yield one
    for each in begun:
        await each.close()


class Steps:
    """Steps that go wrong one after another; then they go well."""

    def __init__(self, *wrong: BaseException) -> None:
        self._wrong = list(wrong)
        self.taken = 0

    async def __call__(self) -> None:
        self.taken += 1
        if self._wrong:
            raise self._wrong.pop(0)

    async def until(self, taken: int) -> None:
        async with asyncio.timeout(20):
            while self.taken < taken:
                await asyncio.sleep(0.001)


async def test_it_goes_on_after_whatever_happened(begin: Begin, metrics: PrometheusMetrics) -> None:
    wrong = [ValueError("a"), MemoryError(), asyncio.CancelledError(), TimeoutError(), RecursionError()]
    steps = Steps(*wrong)
    with capture_logs() as lines:
        loop = await begin(steps)
        await steps.until(len(wrong) + 2)
    assert [line["event"] for line in lines] == ["work_crashed"] * len(wrong)
    assert b'waypost_background_crashes_total{name="work"} 5.0' in metrics.exposition()
    assert loop.well


async def test_one_that_keeps_crashing_is_ill(begin: Begin) -> None:
    steps = Steps(*[ValueError("again") for _ in range(100)])
    loop = await begin(steps)
    async with asyncio.timeout(20):
        while loop.well:
            await asyncio.sleep(0.001)
    assert steps.taken >= 3


async def test_a_store_that_is_unavailable_is_said_once_in_a_while(begin: Begin) -> None:
    steps = Steps(*[Unavailable("full") for _ in range(5)])
    with capture_logs() as lines:
        loop = await begin(steps)
        await steps.until(7)
    assert [line["event"] for line in lines] == ["work_put_off"]
    assert loop.well


async def test_one_that_is_ended_from_outside_begins_again(begin: Begin) -> None:
    steps = Steps()
    loop = await begin(steps)
    await steps.until(2)
    assert loop._task is not None
    loop._task.cancel()
    await steps.until(steps.taken + 3)
    assert loop.well


async def test_a_step_that_does_not_end_is_seen() -> None:
    loop = Background("work", asyncio.Event().wait, 1.0, patience=0.01)
    await loop.start()
    async with asyncio.timeout(20):
        while loop.well:
            await asyncio.sleep(0.001)
    await loop.close()


async def test_it_rests_until_it_is_woken(begin: Begin) -> None:
    taken = 0

    async def step() -> float:
        nonlocal taken
        taken += 1
        return UNTIL_WOKEN

    loop = await begin(step)
    await asyncio.sleep(0.05)
    assert taken == 1
    loop.wake()
    await asyncio.sleep(0.05)
    assert taken == 2


@pytest.mark.parametrize("after", range(6))
async def test_a_stop_is_seen_whenever_it_comes(after: int) -> None:
    """However many turns of the event loop it has had."""
    loop = Background("work", Steps(ValueError("a"), Unavailable("b")), 0.0)
    await loop.start()
    for _ in range(after):
        await asyncio.sleep(0)
    await loop.close()
    assert loop._task is not None
    assert loop._task.done()
    assert not loop.well
