"""Structured logs: one line a record, JSON or for a terminal, written in batches so that a line costs microseconds."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any, TextIO

import msgspec
import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FLUSH_EVERY = 0.1
_FLUSH_AT = 65_536


class BatchedLines:
    """A logger that gathers lines and writes them together: at once for a warning, else within 100 ms.

    Callable from any thread.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._size = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def msg(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
            self._size += len(line)
            if self._size < _FLUSH_AT:
                self._arm()
                return
        self.flush()

    debug = info = msg

    def warning(self, line: str) -> None:
        self.msg(line)
        self.flush()

    error = critical = exception = warning

    def flush(self) -> None:
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_FLUSH_EVERY, self.flush)
            self._timer.daemon = True
            self._timer.start()


def configure(level: str, style: str, stream: TextIO | None = None) -> BatchedLines:
    """Set structlog up for the process and return what has to be flushed at the end."""
    stream = stream or sys.stderr
    lines = BatchedLines(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(style, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    return lines


def _renderer(style: str, stream: TextIO) -> Any:
    if style == "console" or (style == "auto" and stream.isatty()):
        return structlog.dev.ConsoleRenderer(colors=stream.isatty())
    return _json_line


def _json_line(_logger: object, _method: str, record: structlog.typing.EventDict) -> str:
    return msgspec.json.encode(record, enc_hook=repr).decode()


class _Forward(logging.Handler):
    """Sends what libraries log through the standard library the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )
