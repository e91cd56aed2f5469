"""Structured logs: one line a record, JSON or for a terminal, written in batches so that a line costs microseconds.

Whoever logs only puts a line into a bounded queue. One thread writes, so that a full disk, a dead pipe or one that
nobody reads costs lines, which are counted, and never makes anybody raise, wait or grow.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TextIO

import msgspec
import structlog

from waypost.core import times
from waypost.core.escape import escaped, escaped_line

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FLUSH_EVERY = 0.1
_TRY_AGAIN_AFTER = 1.0
_AT_ONCE = 65_536
_FITS_A_PIPE = 4_096
"""Bytes that go into a pipe at once whenever it has room at all (PIPE_BUF)."""
_MORE_FOR_WARNINGS = 1.1
_LAST_LINES_WITHIN = 2.0
_encode = msgspec.json.encode


class Journal(Protocol):
    """Takes the wide lines: one record a publish, one an attempt."""

    def write(self, record: dict[str, Any]) -> None: ...


class NullJournal:
    def write(self, record: dict[str, Any]) -> None:
        pass


class Tally:
    """Lines that nobody will read, because they could not be written when it was time."""

    dropped = 0


tally = Tally()
"""Of this process; `/metrics` shows it."""


class BatchedLines:
    """A logger that gathers lines; a thread of its own writes them together, within 100 ms.

    Callable from any thread, and within a finalizer: nothing here raises or waits for the stream. So many lines and
    bytes wait at most, a tenth more for warnings and what is worse; what comes beyond is dropped.
    """

    def __init__(self, stream: TextIO, *, most_lines: int = 10_000, most_bytes: int = 8 << 20) -> None:
        self._write = _writing_to(stream)
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._untold = 0
        self._writing = memoryview(b"")
        self._lock = threading.RLock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waypost-log", daemon=True)
        self._thread.start()

    def msg(self, line: str, room: float = 1.0) -> None:
        text = line.encode(errors="backslashreplace") + b"\n"
        with self._lock:
            full = self._bytes + len(text) > room * self._most_bytes or len(self._lines) >= room * self._most_lines
            if full:
                self._untold += 1
                tally.dropped += 1
                return
            self._lines.append(text)
            self._bytes += len(text)
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    debug = info = msg

    def warning(self, line: str) -> None:
        self.msg(line, _MORE_FOR_WARNINGS)

    error = critical = exception = fatal = warning

    def close(self, within: float = _LAST_LINES_WITHIN) -> None:
        """Write what is left, or as much as can be written in so many seconds."""
        self._closing.set()
        self._bell.put(None)
        self._thread.join(within)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._bell.get()
            self._closing.wait(_FLUSH_EVERY)
            self._rung = False
            while not self._write_what_waits() and not self._closing.wait(_TRY_AGAIN_AFTER):
                pass
        self._write_what_waits()

    def _write_what_waits(self) -> bool:
        """Whether all of it could be written."""
        try:
            while self._writing or self._take():
                self._writing = self._writing[self._write(self._writing) :]
        except Exception:  # noqa: BLE001  a full disk, a dead pipe, a closed stream: it is tried again
            return False
        if self._untold:
            dropped, self._untold = self._untold, 0
            structlog.get_logger("waypost").warning("log_lines_dropped", lines=dropped)
        return True

    def _take(self) -> bool:
        batch = bytearray()
        with self._lock:
            while self._lines and len(batch) < _AT_ONCE:
                batch += self._lines.popleft()
            self._bytes = max(0, self._bytes - len(batch)) if self._lines else 0
        self._writing = memoryview(batch)
        return bool(batch)


def _writing_to(stream: TextIO) -> Callable[[memoryview], int]:
    """How bytes are written to a stream; how many of them it took. Straight to its descriptor, if it has one."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return lambda data: _written(stream, data)
    return _Descriptor(descriptor).write


def _written(stream: TextIO, data: memoryview) -> int:
    stream.write(bytes(data).decode())
    stream.flush()
    return len(data)


class _Descriptor:
    """Writes so little at a time, and only when there is room, that it does not get stuck in the kernel."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        if not self._room.poll(1_000 * _TRY_AGAIN_AFTER):
            raise TimeoutError("nobody reads")
        return os.write(self._descriptor, data[:_FITS_A_PIPE])


class JsonJournal:
    """Wide lines as JSON, without a logging library between: a line costs a microsecond or two."""

    def __init__(self, lines: BatchedLines) -> None:
        self._msg = lines.msg

    def write(self, record: dict[str, Any]) -> None:
        record["level"] = "info"
        record["timestamp"] = times.render(time.time_ns() // 1000)
        self._msg(_json_line(None, "info", record))


class ConsoleJournal:
    """Wide lines for a terminal, as every other line looks there."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("waypost")

    def write(self, record: dict[str, Any]) -> None:
        self._log.info(record.pop("event"), **record)


def configure(
    level: str,
    style: str,
    *,
    wide_lines: bool = True,
    stream: TextIO | None = None,
    most_lines: int = 10_000,
    most_bytes: int = 8 << 20,
) -> tuple[BatchedLines, Journal]:
    """Set logging up for the process; return what has to be closed at the end, and where wide lines go.

    `style` is `json`, `console` or `auto`: console on a terminal. Wide lines are of level info. So many lines and bytes
    wait at most to be written.
    """
    stream = stream or sys.stderr
    lines = BatchedLines(stream, most_lines=most_lines, most_bytes=most_bytes)
    console = style == "console" or (style == "auto" and stream.isatty())
    render = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else _json_line
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_escape_values] if console else []),
            _Renderer(render),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    _take_over_the_standard_library()
    if not wide_lines or _LEVELS[level] > logging.INFO:
        return lines, NullJournal()
    return lines, ConsoleJournal() if console else JsonJournal(lines)


def _take_over_the_standard_library() -> None:
    """Whatever would write to standard error by itself is logged: that might raise, and might wait for a reader."""
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_died


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    with contextlib.suppress(Exception):
        structlog.get_logger("waypost").error(
            "exception_ignored", what=found.err_msg, of=repr(found.object), exc_info=found.exc_value
        )


def _thread_died(died: threading.ExceptHookArgs) -> None:
    with contextlib.suppress(Exception):
        structlog.get_logger("waypost").error(
            "thread_died", thread=died.thread.name if died.thread else None, exc_info=died.exc_value
        )


class _Renderer:
    """Makes a line of a record, whatever is in it."""

    def __init__(self, render: structlog.typing.Processor) -> None:
        self._render = render

    def __call__(self, logger: object, method: str, record: structlog.typing.EventDict) -> str:
        try:
            return str(self._render(logger, method, record))
        except Exception as error:  # noqa: BLE001  whoever logs must not fail for it
            return _poor_line(method, record, error)


def _json_line(_logger: object, method: str, record: structlog.typing.EventDict) -> str:
    try:
        return escaped_line(_encode(record, enc_hook=repr).decode())
    except Exception as error:  # noqa: BLE001  the same
        return _poor_line(method, record, error)


def _escape_values(_logger: object, _method: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What others wrote begins no line of its own; tracebacks have several."""
    for name, value in record.items():
        if isinstance(value, str):
            record[name] = escaped(value, keep="\n" if name == "exception" else "")
    return record


def _poor_line(method: str, record: structlog.typing.EventDict, error: Exception) -> str:
    """What can be said of a record that cannot be rendered, such as a text with half a surrogate pair."""
    shown = {ascii(name): ascii(value) for name, value in record.items() if isinstance(value, str | int | float)}
    line = {"event": "log_record_unrenderable", "level": method, "error": ascii(error), "record": shown}
    return _encode(line).decode()


class _Forward(logging.Handler):
    """Sends what libraries log through the standard library the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # such as arguments that do not fit the message
            structlog.get_logger(record.name).log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
            )
