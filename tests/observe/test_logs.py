"""Logging raises nothing, waits for nobody and does not grow, whatever becomes of the stream."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog

from waypost.observe import logs
from waypost.observe.logs import BatchedLines, JsonJournal, configure, tally


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class Stream(io.StringIO):
    """Can be written or not, as it is told."""

    broken: Exception | None = None

    def write(self, text: str) -> int:
        if self.broken is not None:
            raise self.broken
        return super().write(text)

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Where one reads, and the stream that writes there."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb"):
        yield reader, stream


@pytest.fixture
def configured() -> Iterator[Callable[..., BatchedLines]]:
    """Logging set up as for a server, and back to what it was."""
    before = structlog.get_config(), logging.getLogger().handlers[:], logging.raiseExceptions
    hooks = sys.unraisablehook, threading.excepthook
    made: list[BatchedLines] = []

    def one(stream: TextIO, style: str = "json", **options: Any) -> BatchedLines:
        made.append(configure("info", style, stream=stream, **options)[0])
        return made[-1]

    yield one
    for lines in made:
        lines.close()
    logging.captureWarnings(capture=False)
    structlog.configure(**before[0])
    logging.getLogger().handlers[:], logging.raiseExceptions = before[1], before[2]
    sys.unraisablehook, threading.excepthook = hooks


class TestLines:
    def test_come_in_their_order_and_the_last_ones_at_the_end(self) -> None:
        lines = BatchedLines(stream := Stream())
        for number in range(5_000):
            (lines.warning if number % 7 == 0 else lines.info)(str(number))
        lines.close()
        assert stream.lines() == [str(number) for number in range(5_000)]

    @pytest.mark.parametrize("broken", [OSError(28, "No space left on device"), ValueError("closed"), MemoryError()])
    def test_that_cannot_be_written_are_kept_up_to_a_bound_and_counted(self, broken: Exception) -> None:
        before = tally.dropped
        stream = Stream()
        stream.broken = broken
        lines = BatchedLines(stream, most_lines=100)
        for number in range(1_000):
            lines.info(str(number))
        assert len(lines._lines) <= 100
        assert tally.dropped >= before + 800  # some were taken in hand meanwhile
        lines.error("worse")
        stream.broken = None
        until(lambda: "worse" in stream.lines())
        lines.close()
        assert stream.lines()[:100] == [str(number) for number in range(100)]

    def test_are_bounded_in_bytes(self) -> None:
        stream = Stream()
        stream.broken = OSError()
        lines = BatchedLines(stream, most_bytes=10_000)
        for _ in range(100):
            lines.info("x" * 999)
        assert sum(map(len, lines._lines)) <= 10_000
        lines.close()

    def test_nobody_waits_for_a_pipe_that_nobody_reads(self, pipe: tuple[int, TextIO]) -> None:
        lines = BatchedLines(pipe[1], most_lines=1_000)
        for _ in range(10_000):
            lines.warning("x" * 100)
        lines.close(0.1)
        assert len(lines._lines) <= 1_100

    def test_nobody_hears_that_a_reader_has_died(self, pipe: tuple[int, TextIO]) -> None:
        os.close(os.dup(pipe[0]))
        os.dup2(os.open(os.devnull, os.O_RDONLY), pipe[0])
        lines = BatchedLines(pipe[1])
        lines.error("into the void")
        until(lambda: bool(lines._writing))
        lines.close()

    def test_a_full_device_is_no_error(self) -> None:
        with Path("/dev/full").open("w") as full:
            lines = BatchedLines(full)
            lines.error("nobody will read this")
            until(lambda: bool(lines._writing))
            assert lines._thread.is_alive()
            lines.close()

    def test_a_reader_that_comes_late_gets_whole_lines(self, pipe: tuple[int, TextIO]) -> None:
        lines = BatchedLines(pipe[1])
        sent = [f"{number} {'x' * 200}" for number in range(2_000)]
        for line in sent:
            lines.info(line)
        got = b""
        while got.count(b"\n") < len(sent):
            got += os.read(pipe[0], 65_536)
        assert got.decode().splitlines() == sent
        lines.close()

    def test_a_finalizer_may_log_in_the_midst_of_it(self) -> None:
        lines = BatchedLines(Stream())
        with lines._lock:
            lines.info("from within")
        lines.close()


def test_what_was_dropped_is_said_once_when_it_works_again(configured: Callable[..., BatchedLines]) -> None:
    stream = Stream()
    stream.broken = OSError()
    configured(stream, most_lines=10)
    log = structlog.get_logger("waypost")
    for number in range(100):
        log.info("line", number=number)
    until(lambda: tally.dropped > 0)
    stream.broken = None
    until(lambda: "log_lines_dropped" in stream.getvalue())
    said = [line for line in map(json.loads, stream.lines()) if line["event"] == "log_lines_dropped"]
    written = sum(json.loads(line)["event"] == "line" for line in stream.lines())
    assert [line["lines"] for line in said] == [100 - written]


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", ["\ud800", Unspeakable(), {"deep": {"\ud800": 1}}])
def test_a_record_that_cannot_be_rendered_is_said_to_be_so(
    configured: Callable[..., BatchedLines], value: object
) -> None:
    lines = configured(stream := Stream())
    structlog.get_logger("waypost").warning("odd", value=value)
    JsonJournal(lines).write({"event": "odd", "value": value})
    until(lambda: len(stream.lines()) == 2)
    found = [json.loads(line) for line in stream.lines()]
    assert {"log_record_unrenderable"} == {line["event"] for line in found}
    assert found[0]["record"]["'event'"] == "'odd'"


@pytest.mark.parametrize("style", ["json", "console"])
def test_what_others_wrote_is_one_line_that_steers_no_terminal(
    style: str, configured: Callable[..., BatchedLines]
) -> None:
    stream = io.StringIO()
    lines = configured(stream, style=style)
    hostile = 'a\n{"event": "forged"}\r\x1b[2J\x7f\x9b31m\u2028\u202e'
    structlog.get_logger("waypost").warning("delivery_failed", message=hostile, headers={"x": hostile})
    lines.close()

    (line,) = stream.getvalue().removesuffix("\n").split("\n")
    assert line.isprintable()
    if style == "json":
        record = json.loads(line)
        assert record["message"] == record["headers"]["x"] == hostile


def test_what_would_write_to_standard_error_by_itself_is_logged(configured: Callable[..., BatchedLines]) -> None:
    configured(stream := Stream())

    class Messy:
        def __del__(self) -> None:
            raise ValueError("left behind")

    def die() -> None:
        raise ValueError("a thread has died")

    Messy()
    dying = threading.Thread(target=die)
    dying.start()
    dying.join()
    logging.getLogger("uvicorn.error").error("%d things", "no number")
    logging.getLogger("uvicorn.error").error("%d things", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("deprecated", stacklevel=1)
    until(lambda: len(stream.lines()) >= 4)
    events = [json.loads(line)["event"] for line in stream.lines()]
    assert events[:3] == ["exception_ignored", "thread_died", "3 things"]
    assert "deprecated" in events[3]
    assert logs.tally is tally
