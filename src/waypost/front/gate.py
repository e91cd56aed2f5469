"""All connections together: how many there may be, whose, and until when."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from waypost.front.limits import Limits
from waypost.front.memory import Memory

if TYPE_CHECKING:
    from waypost.front.connection import Connection
    from waypost.front.exchange import Exchange

_LOOKED_AT = 32
"""How many of an address's oldest connections are asked for a place."""
_GIVEN_UP = 16
"""One in so many connections goes when all places are taken, so that the next few find one."""
_TOLD_EVERY = 60.0
_UNAUTHORIZED = 401
_IPV6_CUSTOMER = 64

_log = structlog.get_logger("waypost")


class Gate:
    """Who shows no credentials has a share of the connections for each address; proxies that are trusted have all.

    Where there is no place, the connection gives way that has waited longest for a request to begin: a client that
    does speak is heard within milliseconds, however many are there that do not. `now` is at most a tick old.
    """

    def __init__(
        self, limits: Limits, trusted: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.smallest_body = min([limits.body_bytes, *limits.bodies.values()])
        self.clock = clock
        self.now = clock()
        self.memory = Memory(limits.memory, limits.memory_per_address)
        self.connections: dict[Connection, None] = {}
        self._strangers: dict[str, dict[Connection, None]] = {}
        self._networks = [ip_network(network) for network in trusted]
        self._owner = functools.lru_cache(1_024)(self._owner_of)
        self._ticking: asyncio.TimerHandle | None = None
        self._full_until = 0.0
        self._turned_away = 0
        self._told_at: float | None = None

    def enter(self, connection: Connection) -> bool:
        """Whether there is a place for it."""
        if self._ticking is None:
            self.now = self.clock()
            self._tick_later()
        if len(self.connections) >= self.limits.connections and not self._make_room():
            self._turned_away += 1
            return False
        self.connections[connection] = None
        owner = self._owner(connection.address)
        if owner:
            mine = self._strangers.setdefault(owner, {})
            if len(mine) >= self.limits.connections_per_address and not self._make_room_among(mine):
                self.connections.pop(connection)
                self._turned_away += 1
                return False
            self._strangers.setdefault(owner, {})[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self._no_stranger(connection)

    def prove(self, connection: Connection, exchange: Exchange) -> None:
        """An answer to somebody with credentials: the connection is no longer a stranger's."""
        if exchange.status != _UNAUTHORIZED and any(name == b"authorization" for name, _ in exchange.scope["headers"]):
            connection.proven = True
            self._no_stranger(connection)

    def _no_stranger(self, connection: Connection) -> None:
        owner = self._owner(connection.address)
        mine = self._strangers.get(owner)
        if mine is not None:
            mine.pop(connection, None)
            if not mine:
                del self._strangers[owner]

    def _owner_of(self, address: str) -> str:
        """Who is counted for an address: itself, an IPv6 customer's network, or nobody for a trusted proxy."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return address
        if any(parsed in network for network in self._networks):
            return ""
        return address if parsed.version == 4 else str(ip_network((parsed, _IPV6_CUSTOMER), strict=False))  # noqa: PLR2004

    def _make_room_among(self, mine: dict[Connection, None]) -> bool:
        waiting = next((one for one in islice(mine, _LOOKED_AT) if one.is_idle), None)
        if waiting is not None:
            self._give_up(waiting)
        return waiting is not None

    def _make_room(self) -> bool:
        """Connections between two requests go first, then those that have not said what they want."""
        if self.now < self._full_until:
            return False
        waiting = [one for one in self.connections if one.is_idle]
        waiting.sort(key=lambda one: (not one.is_between_requests, one.proven, one.since))
        for one in waiting[: max(1, self.limits.connections // _GIVEN_UP)]:
            self._give_up(one)
        if not waiting:
            self._full_until = self.now + self.limits.tick / 2
        return bool(waiting)

    def _give_up(self, connection: Connection) -> None:
        self.leave(connection)
        connection.make_room()

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(self.limits.tick, self._tick)

    def _tick(self) -> None:
        now = self.clock()
        elapsed, self.now, self._ticking = now - self.now, now, None
        for connection in tuple(self.connections):
            connection.look(now, elapsed)
        self.check_unread()
        self._tell()
        if self.connections:
            self._tick_later()

    def check_unread(self) -> None:
        """Bound what is written and not taken yet; asked once a tick, and after each large answer."""
        now = self.clock()
        waiting = [(one, size) for one in self.connections if (size := one.measure(now))]
        unread = sum([size for _, size in waiting])
        if unread > self.limits.answer_memory:
            for connection, size in sorted(waiting, key=lambda pair: pair[0].waits_since):
                connection.abort()
                unread -= size
                if unread <= self.limits.answer_memory:
                    return

    def _tell(self) -> None:
        if self._turned_away and (self._told_at is None or self.now - self._told_at >= _TOLD_EVERY):
            _log.warning("connections_turned_away", count=self._turned_away, open=len(self.connections))
            self._turned_away, self._told_at = 0, self.now
