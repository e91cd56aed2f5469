"""What a change of one destination costs where there are many: work is counted, not timed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow import samples
from tests.flow.house import FAST, House, Receivers
from waypost.core.model import DeliveryState
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.flow.manage import Manager

MANY = 100
_COUNTED = ("claim", "destinations", "destination_by_no", "destination", "release", "due_destinations")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path, Receivers(), Bounds(sweep_interval=3600, shutdown=0.2), FAST)
    await built.start()
    yield built
    await built.close()


def counted(house: House, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of the store from now on."""
    calls = Counter[str]()
    for name in _COUNTED:
        verb = getattr(house.store, name)

        def call(*args: Any, name: str = name, verb: Any = verb, **kwargs: Any) -> Any:
            calls[name] += 1
            return verb(*args, **kwargs)

        monkeypatch.setattr(house.store, name, call)
    return calls


async def test_a_change_touches_the_destination_that_has_changed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [await house.add(f"des_{number}") for number in range(MANY)]
    for to in made:
        await house.until(await house.publish(destination_id=to.id), to, DeliveryState.DELIVERED)
    calls = counted(house, monkeypatch)
    changed = made[0]
    for number in range(10):
        changed = await house.change(changed, metadata={"n": str(number)})
        later = await house.publish(destination_id=changed.id)
        await house.until(later, changed, DeliveryState.DELIVERED)
    assert calls.total() - calls["destinations"] <= 60  # a look at it and a claim for it, each time
    assert calls["destinations"] <= 10  # for the routing of the next event


async def test_creating_many_takes_a_few_calls_for_each(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(
        house.store,
        samples.registry(),
        samples.tools(),
        topics=lambda: (),
        max_destinations=MANY,
        changed=house.changed,
        now=clock.now,
    )
    calls = counted(house, monkeypatch)
    for number in range(MANY):
        await manager.create("acme", samples.letterbox(id=f"des_{number}"))
    async with asyncio.timeout(10):
        while calls["claim"] < MANY:
            await asyncio.sleep(0.01)
    assert calls.total() <= 4 * MANY
