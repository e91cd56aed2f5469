"""A process of the rig at the other end of a pipe."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

_START = 30.0
_STOP = 5.0


class WorkerFailed(Exception):
    """A process of the rig ended or fell silent."""


class Worker:
    """Runs `main(pipe, plan)` in a fresh process and holds the other end of the pipe. Ends when the pipe closes."""

    def __init__(self, main: Callable[[Connection, Any], None], plan: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, plan), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def ask(self, question: Any, timeout: float) -> Any:
        """Send a question and wait for the answer, `timeout` seconds at most."""
        self._pipe.send(question)
        return self.answer(timeout)

    def answer(self, timeout: float = _START) -> Any:
        try:
            if self._pipe.poll(timeout):
                return self._pipe.recv()
        except EOFError:
            raise WorkerFailed(f"a process of the rig ended: {self._process.name}") from None
        raise WorkerFailed(f"a process of the rig did not answer within {timeout:.0f} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(_STOP)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the run's own process is the one that cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
