"""What the operating system says a process used, with all its threads and children (/proc, Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = range(11, 15)


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants that live."""
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(tasks).split():
            yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time used so far by a process, its threads and its children, ended ones included."""
    return sum(_ticks(member) for member in family(pid)) / _TICKS


def resident_bytes(pid: int, field: str = "VmRSS") -> int:
    """Resident memory of a process and its children: `VmRSS` now, `VmHWM` at its highest."""
    return sum(_status(member, field) for member in family(pid)) * 1024


def forget_peak(pid: int) -> None:
    """Let `VmHWM` of a process and its children start anew (proc(5), clear_refs)."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5", encoding="ascii")


def _ticks(pid: int) -> int:
    # the name of the command stands in parentheses and may itself contain spaces
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    wanted = (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM)
    return sum(int(fields[at]) for at in wanted) if fields else 0


def _status(pid: int, field: str) -> int:
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
