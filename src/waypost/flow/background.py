"""The shape of every loop: a step, a rest, and again, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable

import structlog

from waypost.core.errors import Unavailable
from waypost.observe.metrics import Metrics, NullMetrics

_log = structlog.get_logger("waypost")
_LONGEST_PUT_OFF = 10.0
_LONGEST_AFTER_A_CRASH = 60.0
_LEAST_AFTER_A_CRASH = 1.0
_SAID_AGAIN_AFTER = 60.0
_CRASHES_OF_THE_ILL = 3

UNTIL_WOKEN = math.inf
"""What a step returns that has nothing more to do until somebody wakes it."""


class Background:
    """Takes a step every so many seconds, or after as many as the last step returned, or when it is woken.

    A store that is unavailable puts a step off. A step that crashes is logged, counted, and taken again, later each
    time; a loop that is ended from outside begins again. `patience` is how long a step may take before the loop is
    called ill, in seconds.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float | None]],
        every: float,
        metrics: Metrics | None = None,
        *,
        patience: float = math.inf,
    ) -> None:
        self.name = name
        self.woken = asyncio.Event()
        self._step = step
        self._every = every
        self._metrics = metrics or NullMetrics()
        self._patience = patience
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._stepping_since: float | None = None
        self._crashes = self._put_off = 0
        self._say_at = 0.0

    async def start(self) -> None:
        self._closing = False
        self._begin()

    async def close(self) -> None:
        """End it, in the midst of a step if there is one."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """There is something to do."""
        self.woken.set()

    @property
    def well(self) -> bool:
        """Whether it is at work, and gets through its steps."""
        alive = self._task is not None and not self._task.done()
        stuck = self._stepping_since is not None and time.monotonic() > self._stepping_since + self._patience
        return alive and not stuck and self._crashes < _CRASHES_OF_THE_ILL

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"waypost-{self.name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._closing:
            self._crashed(None if task.cancelled() else task.exception())
            task.get_loop().call_later(self._rest_after_a_crash(), self._begin_again)

    def _begin_again(self) -> None:
        if not self._closing:
            self._begin()

    async def _run(self) -> None:
        while not self._closing:
            self.woken.clear()
            self._stepping_since = time.monotonic()
            rest = await self._stepped()
            self._stepping_since = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if rest == UNTIL_WOKEN else rest):
                    await self.woken.wait()

    async def _stepped(self) -> float:
        """Take a step; the seconds until the next one."""
        try:
            rest = await self._step()
        except Unavailable as error:
            self._put_off += 1
            self._complain(error)
            return max(self._every, min(_LONGEST_PUT_OFF, self._every * math.pow(2.0, min(self._put_off, 16))))
        except asyncio.CancelledError as error:
            if _is_being_ended():
                raise
            self._crashed(error)  # something that the step waited for was cancelled, and not the step
            return self._rest_after_a_crash()
        except Exception as error:  # noqa: BLE001  whatever it was: it is tried again
            self._crashed(error)
            return self._rest_after_a_crash()
        self._crashes = self._put_off = 0
        return self._every if rest is None else rest

    def _complain(self, error: Unavailable) -> None:
        """At first, and then once in a while."""
        if self._put_off == 1 or time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + _SAID_AGAIN_AFTER
            _log.warning(f"{self.name}_put_off", error=str(error), times=self._put_off)

    def _crashed(self, error: BaseException | None) -> None:
        self._crashes += 1
        self._metrics.crashed(self.name)
        _log.error(f"{self.name}_crashed", crashes=self._crashes, exc_info=error)

    def _rest_after_a_crash(self) -> float:
        longest = max(self._every, _LONGEST_AFTER_A_CRASH)
        return min(longest, max(self._every, _LEAST_AFTER_A_CRASH) * math.pow(2.0, min(self._crashes - 1, 16)))


def _is_being_ended() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
