"""The thread that makes checkpoints: no stop is missed, whenever it comes."""

from __future__ import annotations

import dis
import inspect
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from structlog.testing import capture_logs

from waypost.store.sqlite.checkpoints import Checkpoints


def codes_of(kind: type) -> Iterator[CodeType]:
    """The code of a class's own functions, and of the functions within these."""
    found = [function.__code__ for _, function in inspect.getmembers(kind, inspect.isfunction)]
    while found:
        code = found.pop()
        yield code
        found += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


WORKING = [code for code in codes_of(Checkpoints) if code.co_name not in {"__init__", "start", "committed", "close"}]
LINES = sorted({line for code in WORKING for _, line in dis.findlinestarts(code) if line})


def started(path: Path) -> Checkpoints:
    checkpoints = Checkpoints(lambda: sqlite3.connect(path, check_same_thread=False))
    checkpoints.start()
    return checkpoints


def thread_of(checkpoints: Checkpoints) -> threading.Thread:
    (found,) = [value for value in vars(checkpoints).values() if isinstance(value, threading.Thread)]
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_stop_that_comes_at_this_line_of_the_thread_is_seen(tmp_path: Path, line: int) -> None:
    """The thread pauses before the line until somebody has called `close`, as far as that gets meanwhile."""
    closers: list[threading.Thread] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code not in WORKING:
            return None
        if event == "line" and frame.f_lineno == line and not closers:
            closers.append(threading.Thread(target=checkpoints.close, daemon=True))
            closers[0].start()
            time.sleep(0.05)
        return trace

    checkpoints = Checkpoints(lambda: sqlite3.connect(tmp_path / "some.db", check_same_thread=False))
    threading.settrace(trace)
    try:
        checkpoints.start()
    finally:
        threading.settrace(sys.gettrace())
    thread = thread_of(checkpoints)
    end = time.monotonic() + 20
    while not closers and time.monotonic() < end and thread.is_alive():
        checkpoints.committed()
        time.sleep(0.01)
        if time.monotonic() > end - 19:  # a line that is reached in trouble only
            break
    if not closers:
        checkpoints.close()
    thread.join(20)
    assert not thread.is_alive()


def test_whatever_goes_wrong_it_goes_on(tmp_path: Path) -> None:
    tries = 0

    def connect() -> sqlite3.Connection:
        nonlocal tries
        tries += 1
        raise MemoryError("not now")

    checkpoints = Checkpoints(connect)
    with capture_logs() as lines:
        checkpoints.start()
        checkpoints.committed()
        end = time.monotonic() + 20
        while not lines and time.monotonic() < end:
            time.sleep(0.01)
        assert thread_of(checkpoints).is_alive()
        checkpoints.close()
        thread_of(checkpoints).join(20)
    assert not thread_of(checkpoints).is_alive()
    assert [line["event"] for line in lines] == ["checkpoint_failed"]
