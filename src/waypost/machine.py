"""What the process asks of its machine before it serves: descriptors, memory, threads, the garbage collector."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress

import structlog

from waypost.settings import Settings

_log = structlog.get_logger("waypost")

_SWITCH_INTERVAL = 0.001
_COLLECT_AFTER = (50_000, 20, 20)
"""The collector looks for circles among what is young after so many objects. Bodies and answers are in none of them."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt(3)."""
_LARGE = 128 * 1024

_ENOUGH = 1 << 20
"""Some systems have a hard limit of a thousand millions, and some libraries close all descriptors one by one."""


def settle_down() -> None:
    """Let the threads take turns quickly, and keep the garbage collector off what lives as long as the process."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def give_memory_back() -> bool:
    """Have glibc return what is freed: large blocks at once, by a threshold that does not creep up, from one arena.

    Otherwise a burst of large bodies leaves the process at its peak for good. False where the C library is another.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        asked = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE), (_ARENA_MAX, 1))
        return all(mallopt(parameter, value) == 1 for parameter, value in asked)
    return False


def raise_descriptor_limit() -> int | None:
    """Take as many descriptors as the system lets the process have. Returns that number, None if there is no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def descriptors_needed(settings: Settings) -> int:
    """What the settings can use up: of all descriptors one half is for clients, the other for sending."""
    sending = settings.delivery_concurrency + settings.delivery_sockets
    return 2 * max(sending, settings.webhook_keep_alive, settings.max_connections)


def say_if_scarce(limit: int | None, settings: Settings) -> bool:
    """Tell the operator of a limit of descriptors that the settings can exhaust. Whether it is one."""
    needed = descriptors_needed(settings)
    if limit is None or limit >= needed:
        return False
    _log.warning(
        "descriptor_limit_low",
        limit=limit,
        needed=needed,
        advice="allow more open files (ulimit -n, LimitNOFILE=), or lower delivery_sockets and max_connections",
    )
    return True
