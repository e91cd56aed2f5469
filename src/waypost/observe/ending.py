"""Ends that are waited for in bounded time, and say for whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

import structlog

_log = structlog.get_logger("waypost")


async def within(seconds: float, who: str, end: Awaitable[object]) -> bool:
    """Wait so long for somebody to end. Whether it did; if not, the log says who was waited for."""
    ending = asyncio.ensure_future(end)
    done, _ = await asyncio.wait({ending}, timeout=seconds)
    if not done:
        _log.error("stop_gave_up_waiting", who=who, seconds=seconds)
        ending.cancel()
        return False
    if ending.exception() is not None:
        _log.error("stop_failed", who=who, exc_info=ending.exception())
    return True


async def joined(thread: threading.Thread, seconds: float) -> bool:
    """Wait for a thread. Whether it ended in time."""
    await asyncio.to_thread(thread.join, seconds)
    if thread.is_alive():
        _log.error("stop_gave_up_waiting", who=thread.name, seconds=seconds)
    return not thread.is_alive()


async def shut_down(pool: ThreadPoolExecutor, who: str, seconds: float) -> bool:
    """End a pool without what has not begun; wait for what has. Whether it ended in time."""
    return await within(seconds, who, asyncio.to_thread(pool.shutdown, cancel_futures=True))
