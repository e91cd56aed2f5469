from __future__ import annotations

from types import SimpleNamespace

import pytest

from waypost.flow import throttle
from waypost.flow.throttle import Sparing


async def test_what_takes_long_is_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 1_000.0, 0
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask() -> int:
        nonlocal now, asked
        now, asked = now + 2.0, asked + 1
        return asked

    sparing = Sparing(ask, share=0.01)
    assert await sparing.answer() == 1
    now += 199.0
    assert await sparing.answer() == 1
    now += 1.0
    assert await sparing.answer() == 2
    assert asked == 2
