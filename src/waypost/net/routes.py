"""Which connections a request may use, and where libcurl finds their host.

libcurl is told the addresses of a name (`CURLOPT_RESOLVE`) and looks nothing up itself. Over HTTP/2 many requests are
on one connection at once, and whatever ends it fails them all: there, each owner's requests travel on connections of
their own. They are kept apart by the name that libcurl connects to (`CURLOPT_CONNECT_TO`), which is part of what must
agree for a connection to be used again, while `Host`, SNI and the name in the certificate stay those of the URL.
"""

from __future__ import annotations

from msgspec import Struct

_HOSTS = 10_000
"""Names and hosts that are remembered."""
_NOWHERE = "invalid"
"""RFC 6761, section 6.4: no resolver has a name in it, should one ever be asked."""


class Place(Struct, frozen=True, kw_only=True):
    """A host and port with its addresses as libcurl takes them.

    `literal`: the host is an address itself. `secure`: HTTP/2 is possible there. `tunnel`: a proxy is asked for a
    tunnel to the address.
    """

    authority: str
    port: int
    addresses: str
    literal: bool = False
    secure: bool = False
    tunnel: bool = False


class Route(Struct, frozen=True):
    """What a handle has to be told: addresses that libcurl does not know yet, and what it shall connect to."""

    news: list[str]
    connect_to: str | None = None


class Routes:
    """Remembers what libcurl was told, and which hosts speak HTTP/2."""

    def __init__(self, size: int | None = None) -> None:
        self._size = size or _HOSTS
        self._known: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._made = 0
        self._multiplexing: dict[str, bool] = {}

    def to(self, place: Place, owner: str) -> Route:
        """The way to a place for one of an owner's requests; those without owner are one owner's."""
        if place.tunnel:
            return Route([], f"{place.authority}:{place.addresses}:{place.port}")
        if place.secure and self._multiplexing.get(place.authority, bool(owner)):
            name = self._name(owner, place)
            return Route(self._news(name, place.addresses), f"::{name}")
        return Route([] if place.literal else self._news(place.authority, place.addresses))

    def renew(self, place: Place, owner: str, former: str | None) -> None:
        """Have an owner's requests leave a connection that ended, all of them for the same new one."""
        name = self._names.get((owner, place.authority))
        if name is not None and former == f"::{name}":
            del self._names[owner, place.authority]

    def multiplexes(self, place: Place) -> bool:
        """Whether the host is known to take many requests on one connection.

        Only then it pays to wait for one: elsewhere requests would open their connections one after the other.
        """
        return self._multiplexing.get(place.authority, False)

    def note(self, place: Place, *, multiplexes: bool) -> None:
        """Remember what a host's answer has shown."""
        if place.authority not in self._multiplexing and len(self._multiplexing) >= self._size:
            del self._multiplexing[next(iter(self._multiplexing))]
        self._multiplexing[place.authority] = multiplexes

    def _name(self, owner: str, place: Place) -> str:
        key = owner, place.authority
        name = self._names.pop(key, None)
        if name is None:
            if len(self._names) >= self._size:
                del self._names[next(iter(self._names))]
            self._made += 1
            name = f"{self._made}.{_NOWHERE}:{place.port}"
        self._names[key] = name
        return name

    def _news(self, name: str, addresses: str) -> list[str]:
        """Entries that make libcurl's cache agree; the name that was used least lately makes room for a new one."""
        known = self._known.pop(name, None)
        self._known[name] = addresses
        if known == addresses:
            return []
        entries = [f"{name}:{addresses}"]
        if len(self._known) > self._size:
            oldest = next(iter(self._known))
            del self._known[oldest]
            entries.insert(0, f"-{oldest}")
        return entries
