"""Real servers for tests: found, started on 127.0.0.1, waited for, stopped by pid.

A server's module offers a session-scoped fixture. With CI=true a server that is not installed is a failure, elsewhere
a skip that says what to install.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

HOST = "127.0.0.1"
Ready = Callable[[], bool]

_BETWEEN_LOOKS = 0.05
_SECONDS_TO_STOP = 10.0
_SHOWN_OF_A_LOG = 4_000


def missing(what: str) -> NoReturn:
    """End the test for want of `what`: a failure where CI=true, a skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")


def program(name: str, *, package: str | None = None) -> str:
    """The path of an installed program, also of a daemon outside a user's PATH; `missing` where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    return found if found is not None else missing(f"{name} (Debian package {package or name})")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on the port: the simplest `ready`."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class Server:
    """A server process that can be stopped and started again, as for the tests of what happens while it is down."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        port: int,
        ready: Ready,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.name = name
        self.port = port
        self._argv = list(argv)
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._timeout = timeout
        self._log = tempfile.TemporaryFile(prefix=f"{name}-")  # noqa: SIM115 - it is open for as long as the server is known
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """The end of what the server has written."""
        self._log.flush()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _SHOWN_OF_A_LOG))
        return self._log.read().decode(errors="replace")

    def start(self) -> None:
        """Start the process and wait until it is ready. Fails the test, with the end of the log, when it is not."""
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        deadline = time.monotonic() + self._timeout
        while not self._ready():
            if self._process.poll() is not None:
                self._fail(f"ended with status {self._process.returncode} before it was ready")
            if time.monotonic() > deadline:
                self._fail(f"was not ready after {self._timeout:g} s")
            time.sleep(_BETWEEN_LOOKS)

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """End the process and the ones it started: asked first, killed when it does not follow."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process, first)
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
        _signal(process, signal.SIGKILL)

    def kill(self) -> None:
        """End the process as a crash would."""
        self.stop(signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        self._log.close()

    def _fail(self, why: str) -> NoReturn:
        self.stop()
        pytest.fail(f"{self.name} {why}:\n{self.log}", pytrace=False)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process group, which the process leads; it can be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def start(
    name: str,
    argv: Sequence[str],
    *,
    port: int,
    ready: Ready,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 30.0,
) -> Iterator[Server]:
    """A server for the length of a `with`. `env` is added to the environment, `timeout` is in seconds."""
    server = Server(name, argv, port=port, ready=ready, env=env, cwd=cwd, timeout=timeout)
    try:
        server.start()
        yield server
    finally:
        server.close()


def cache_directory(name: str) -> Path:
    """A directory that outlives the run, for what is expensive to bring: under XDG_CACHE_HOME or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = base / "waypost" / name
    found.mkdir(parents=True, exist_ok=True)
    return found
