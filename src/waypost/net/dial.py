"""Connections to servers that customers name: looked up and guarded, address by address, failures with a name.

What is checked is what is connected to: the socket goes to the checked address, TLS still verifies the server's name.
"""

from __future__ import annotations

import asyncio
import errno
import ssl

from waypost.core.errors import DeliveryError
from waypost.net.hosts import HostPort
from waypost.net.intake import LINE
from waypost.net.resolve import Resolver

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN})


async def dial(
    server: HostPort, resolver: Resolver, *, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of a server's addresses that answers. Raises DeliveryError.

    There is no limit of time in here: the caller's timeout covers all addresses.
    """
    name = server.host if tls is not None else None
    trouble: OSError | None = None
    for address in await resolver.addresses(server.host, server.port):
        try:
            return await asyncio.open_connection(address, server.port, ssl=tls, server_hostname=name, limit=LINE)
        except OSError as error:
            trouble = error
    try:
        raise network_error(trouble or ConnectionError(), server)
    finally:
        trouble = None  # it knows this frame


def network_error(error: Exception, server: object) -> DeliveryError:
    """The failure of a connection as a named code and a sentence. `server` is what a customer calls the server."""
    if isinstance(error, DeliveryError):
        return error
    if isinstance(error, TimeoutError):
        return DeliveryError("timeout", f"{server} did not answer in time")
    if isinstance(error, ssl.SSLError):
        return DeliveryError("tls_error", f"No secure connection to {server}: {_tls_reason(error)}")
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ConnectionRefusedError) or number == errno.ECONNREFUSED:
        return DeliveryError("connection_refused", f"{server} refused the connection")
    if isinstance(error, ConnectionResetError | EOFError | BrokenPipeError) or number in _RESET:
        return DeliveryError("connection_reset", f"{server} closed the connection")
    if number in _UNREACHABLE:
        return DeliveryError("network_unreachable", f"There is no way to {server}")
    return DeliveryError("network_error", f"The connection to {server} failed")


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "its certificate cannot be verified"
    return (error.reason or "the handshake failed").replace("_", " ").lower()
