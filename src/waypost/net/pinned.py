"""For client libraries that connect by themselves: an address that remembers the name it was looked up from.

The library gets the checked address as its host, so that it looks nothing up again; a PinnedContext then asks the
server for a certificate of the name, not of the address.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any


class PinnedHost(str):
    """A checked address, in every way a text, that knows its server's name."""

    __slots__ = ("name",)
    name: str

    @classmethod
    def of(cls, name: str, address: str) -> PinnedHost:
        pinned = cls(address)
        pinned.name = name
        return pinned


class PinnedContext(ssl.SSLContext):
    """A client's TLS context that takes the server's name out of a PinnedHost."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, _name(server_hostname), session)

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        options["server_hostname"] = _name(options.get("server_hostname"))
        return super().wrap_socket(sock, *args, **options)


def _name(host: str | bytes | None) -> str | bytes | None:
    return host.name if isinstance(host, PinnedHost) else host
