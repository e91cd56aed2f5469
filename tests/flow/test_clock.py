"""The time of day when the system's clock is wrong for a while, and what waits for an instant of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from waypost.core import ids
from waypost.core.model import DAY, SECOND, Micros
from waypost.flow.clock import Sequence, Steady
from waypost.flow.rings import Rings

NOON: Micros = 1_800_000_000 * SECOND
HALF_AN_HOUR = 1_800 * SECOND


class Machine:
    """A system's clock that can be set, beside one that only runs. In microseconds; the product reads nanoseconds."""

    def __init__(self) -> None:
        self.ran: Micros = 0
        self.error: Micros = 0
        self.clock = Steady(wall=lambda: (NOON + self.ran + self.error) * 1000, running=lambda: self.ran * 1000)

    @property
    def true(self) -> Micros:
        return NOON + self.ran

    def run(self, seconds: float) -> list[Micros]:
        """What the clock is off by, each second while time passes."""
        off = []
        for _ in range(round(seconds)):
            self.ran += SECOND
            off.append(self.clock.now() - self.true)
        return off


@pytest.mark.parametrize(("step", "seconds"), [(-HALF_AN_HOUR, 6), (100 * DAY, 8), (HALF_AN_HOUR, 25)])
def test_a_clock_that_is_wrong_for_a_moment_changes_nothing(step: Micros, seconds: int) -> None:
    machine = Machine()
    machine.run(5)
    machine.error = step
    assert machine.run(seconds) == [0] * seconds
    machine.error = 0
    assert machine.run(60) == [0] * 60


@pytest.mark.parametrize("step", [-HALF_AN_HOUR, 100 * DAY])
def test_a_clock_that_was_put_right_is_followed(step: Micros) -> None:
    machine = Machine()
    machine.run(5)
    machine.error = step
    off = machine.run(60)
    assert off[:20] == [0] * 20
    assert off[40:] == [step] * 20


def test_small_corrections_are_followed_at_once() -> None:
    machine = Machine()
    machine.run(5)
    machine.error = 400_000
    assert machine.run(2) == [400_000, 400_000]


def test_a_clock_that_jumps_about_is_not_believed() -> None:
    machine = Machine()
    for number in range(100):
        machine.error = number * HALF_AN_HOUR
        assert machine.run(3) == [0, 0, 0]


def test_numbers_follow_a_clock_that_is_put_back_and_none_comes_twice() -> None:
    now = [NOON]
    sequence = Sequence(node=7, clock=lambda: now[0])
    first = [sequence.next() for _ in range(3)]
    now[0] = NOON + 100 * DAY
    ahead = [sequence.next() for _ in range(3)]
    now[0] = NOON
    again = [sequence.next() for _ in range(3)]
    assert again == sorted(again)
    assert all(ids.time_of(number) == NOON for number in again)
    assert len({*first, *ahead, *again}) == 9


def test_numbers_grow_through_a_small_step_back() -> None:
    now = [NOON]
    sequence = Sequence(node=7, clock=lambda: now[0])
    first = sequence.next()
    now[0] -= 30 * SECOND
    assert sequence.next() > first


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)


async def test_what_is_due_is_found_once_the_time_of_day_is_right_again() -> None:
    """The clock is half an hour behind when the ring comes, so that the wait looks that long."""
    now, rung, looks = [NOON], list[int](), [0]

    def answer(numbers: Iterable[int]) -> None:
        looks[0] += 1
        rung.extend(numbers)

    rings = Rings(answer, now=lambda: now[0], longest_sleep=0.01)
    now[0] = NOON - HALF_AN_HOUR
    rings.ring(1, NOON + SECOND)
    await until(lambda: looks[0] >= 2)
    assert rung == []
    now[0] = NOON + 2 * SECOND
    await until(lambda: rung == [1])
    rings.close()


async def test_nothing_is_rung_after_the_close() -> None:
    rings = Rings(lambda _: pytest.fail("it is closed"), now=lambda: NOON)
    rings.close()
    rings.ring(1, NOON)
    await asyncio.sleep(0.02)
