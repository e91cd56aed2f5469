"""Waiting for sockets behind one descriptor, which in turn can be waited for by an event loop."""

from __future__ import annotations

import select
import selectors
from typing import Protocol

POLLIN, POLLOUT, POLLERR, POLLRDHUP = 0x1, 0x4, 0x18, 0x2000
"""Bits of poll(2): readable, writable, failed or hung up, and (Linux only) closed by the peer. epoll has the same."""


class Poller(Protocol):
    """What `select.epoll` offers, as far as it is needed here."""

    def fileno(self) -> int: ...
    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class SelectorPoller:
    """The same on systems without epoll, over the best that the standard library knows (kqueue)."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def register(self, fd: int, eventmask: int) -> None:
        """The descriptor may be new under an old number, which the selector does not notice by itself."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        self._selector.register(fd, _events(eventmask))

    def modify(self, fd: int, eventmask: int) -> None:
        self._selector.modify(fd, _events(eventmask))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return [(key.fd, _bits(events)) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller:
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()


def _events(bits: int) -> int:
    return (selectors.EVENT_READ if bits & POLLIN else 0) | (selectors.EVENT_WRITE if bits & POLLOUT else 0)


def _bits(events: int) -> int:
    return (POLLIN if events & selectors.EVENT_READ else 0) | (POLLOUT if events & selectors.EVENT_WRITE else 0)
