"""Names looked up by c-ares: no thread waits for a name that hangs, only a number in a table does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import aiodns
import pycares
from aiodns import error as ares

from waypost.core.errors import DeliveryError, Unavailable
from waypost.net.resolve import LookupTrouble

_TRIES = 2
_FIRST_TRY = 1 / 3
"""Of the time for a name; the second try takes twice as long."""
_NO_SUCH_NAME = frozenset({ares.ARES_ENOTFOUND, ares.ARES_ENODATA})
_NOT_A_NAME = frozenset({ares.ARES_EBADNAME, ares.ARES_EBADQUERY, ares.ARES_EBADSTR})
_OWN_TROUBLE = frozenset({ares.ARES_ECONNREFUSED, ares.ARES_ENOMEM, ares.ARES_EFILE, ares.ARES_ENOTINITIALIZED})


class CaresResolver:
    """The name servers of `/etc/resolv.conf`, or those given as `address:port`; `/etc/hosts` comes first.

    Names are absolute: no search domains are tried. The order is that of RFC 6724.
    """

    def __init__(self, *, timeout: float = 5.0, servers: Sequence[str] = ()) -> None:
        self._timeout = timeout
        self._servers = tuple(servers)
        self._opened: aiodns.DNSResolver | None = None

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Raises DeliveryError as Resolver says, LookupTrouble where another try may find the name, or Unavailable."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._channel().getaddrinfo(
                    host, family=socket.AF_UNSPEC, port=port, type=socket.SOCK_STREAM
                )
        except TimeoutError:
            raise LookupTrouble("dns_error", f"The lookup of {host} took longer than {self._timeout:g} s") from None
        except UnicodeError:
            raise DeliveryError("dns_error", f"{host} is not a name that can be looked up") from None
        except (ares.DNSError, pycares.AresError) as error:
            raise _failure(host, error.args[0] if error.args else 0) from error
        except OSError as error:
            raise Unavailable(f"No name can be looked up: {error}", reason="names") from error
        found = tuple(dict.fromkeys(_text(node.addr[0]) for node in answer.nodes))
        if not found:
            raise DeliveryError("dns_error", f"{host} has no address")
        return found

    async def close(self) -> None:
        """Give up what is being looked up. Idempotent."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.close()

    def _channel(self) -> aiodns.DNSResolver:
        if self._opened is None:
            self._opened = aiodns.DNSResolver(
                loop=asyncio.get_running_loop(),
                timeout=self._timeout * _FIRST_TRY,
                tries=_TRIES,
                flags=pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_EDNS,
                **({"servers": self._servers} if self._servers else {}),
            )
        return self._opened


def _failure(host: str, number: int) -> Exception:
    if number in _NO_SUCH_NAME:
        return DeliveryError("dns_error", f"There is no address for {host}")
    if number in _NOT_A_NAME:
        return DeliveryError("dns_error", f"{host} is not a name that can be looked up")
    reason = _text(pycares.errno.strerror(number))
    if number in _OWN_TROUBLE:
        return Unavailable(f"No name can be looked up: {reason}", reason="names")
    return LookupTrouble("dns_error", f"{host} could not be looked up: {reason}")


def _text(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address
