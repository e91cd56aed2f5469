"""Structured logs: one line a record, JSON or for a terminal, written in batches so that a line costs microseconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import Any, Protocol, TextIO

import msgspec
import structlog

from waypost.core import times

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FLUSH_EVERY = 0.1
_encode = msgspec.json.encode


class Journal(Protocol):
    """Takes the wide lines: one record a publish, one an attempt."""

    def write(self, record: dict[str, Any]) -> None: ...


class NullJournal:
    def write(self, record: dict[str, Any]) -> None:
        pass


class BatchedLines:
    """A logger that gathers lines and writes them together: at once for a warning, else within 100 ms.

    Callable from any thread. `close` writes what is left.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._something = threading.Event()
        self._closed = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="waypost-log", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        self._lines.append(line)
        if not self._something.is_set():
            self._something.set()

    debug = info = msg

    def warning(self, line: str) -> None:
        self.msg(line)
        self.flush()

    error = critical = exception = warning

    def flush(self) -> None:
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()

    def close(self) -> None:
        self._closed = True
        self._something.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closed:
            self._something.wait()
            self._something.clear()
            time.sleep(_FLUSH_EVERY)
            self.flush()


class JsonJournal:
    """Wide lines as JSON, without a logging library between: a line costs a microsecond or two."""

    def __init__(self, lines: BatchedLines) -> None:
        self._msg = lines.msg

    def write(self, record: dict[str, Any]) -> None:
        record["level"] = "info"
        record["timestamp"] = times.render(time.time_ns() // 1000)
        self._msg(_encode(record).decode())


class ConsoleJournal:
    """Wide lines for a terminal, as every other line looks there."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("waypost")

    def write(self, record: dict[str, Any]) -> None:
        self._log.info(record.pop("event"), **record)


def configure(
    level: str, style: str, *, wide_lines: bool = True, stream: TextIO | None = None
) -> tuple[BatchedLines, Journal]:
    """Set structlog up for the process; return what has to be closed at the end, and where wide lines go.

    `style` is `json`, `console` or `auto`: console on a terminal. Wide lines are of level info.
    """
    stream = stream or sys.stderr
    lines = BatchedLines(stream)
    console = style == "console" or (style == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else _json_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    if not wide_lines or _LEVELS[level] > logging.INFO:
        return lines, NullJournal()
    return lines, ConsoleJournal() if console else JsonJournal(lines)


def _json_line(_logger: object, _method: str, record: structlog.typing.EventDict) -> str:
    return _encode(record, enc_hook=repr).decode()


class _Forward(logging.Handler):
    """Sends what libraries log through the standard library the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )
