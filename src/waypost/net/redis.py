"""As much of Redis as a writer needs: commands in a pipeline, their replies in order (RESP 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

from waypost.core.errors import DeliveryError
from waypost.net.failure import copy_of, one_line
from waypost.net.intake import Bounds, Violation
from waypost.net.wire import Wire

Reply = str | int | None | DeliveryError

_MEANINGS = {
    "WRONGPASS": ("bad_credentials", "did not accept the user name and password", False),
    "NOAUTH": ("bad_credentials", "wants a password", False),
    "NOPERM": ("access_denied", "does not allow the user to do this", False),
    "WRONGTYPE": ("wrong_type", "holds something other than a stream under this key", False),
    "OOM": ("out_of_memory", "has no memory left", True),
    "READONLY": ("unavailable", "is a read-only replica", True),
    "LOADING": ("unavailable", "is still loading its data", True),
    "BUSY": ("unavailable", "is busy with a script", True),
    "MISCONF": ("unavailable", "cannot save its data at the moment", True),
    "CLUSTERDOWN": ("unavailable", "belongs to a cluster that is down", True),
    "TRYAGAIN": ("unavailable", "is moving the key to another node", True),
    "MASTERDOWN": ("unavailable", "has no connection to its master", True),
    "NOREPLICAS": ("unavailable", "has too few replicas at the moment", True),
    "MOVED": ("wrong_node", "is not the node of the cluster that holds this key", False),
    "ASK": ("unavailable", "is moving the key to another node", True),
}
"""The first word of Redis's errors: code, what it says of the server, whether another try can succeed."""


class Redis:
    """A connection to one server. Raises DeliveryError for what the server refuses."""

    def __init__(
        self,
        server: object,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds = Bounds(),  # noqa: B008 - a frozen value
    ) -> None:
        self._server = server
        self._wire: Wire[int, Reply] = Wire(server, reader, writer, bounds)
        self._sent = count()
        self._answered = count()
        self._wire.read_with(self._read_one)

    @property
    def alive(self) -> bool:
        return self._wire.alive

    async def call(self, *words: bytes | str) -> str | int | None:
        """Send a command and wait for its reply."""
        reply = await self._wire.ask(next(self._sent), packed(words))
        if isinstance(reply, DeliveryError):
            raise copy_of(reply)
        return reply

    async def close(self) -> None:
        await self._wire.close()

    async def _read_one(self) -> None:
        reply = await self._reply()
        if self._wire.waiting:
            self._wire.answer(next(self._answered), reply)
        elif isinstance(reply, DeliveryError):
            self._wire.lose(reply)  # a server that is full says so before it is asked anything
        else:
            raise Violation("a reply to nothing")

    async def _reply(self) -> Reply:
        line = await self._wire.intake.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode("utf-8", "replace")
        if kind == b"-":
            return refusal(rest.decode("utf-8", "replace"), self._server)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return await self._bulk(int(rest))
        raise ValueError("not a reply of a command that is used here")

    async def _bulk(self, size: int) -> str | None:
        if size < 0:
            return None
        return (await self._wire.intake.exactly(size + 2))[:-2].decode("utf-8", "replace")


def packed(words: Sequence[bytes | str]) -> bytes:
    """A command as it goes over the wire: an array of texts, each with its length before it."""
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def refusal(said: str, server: object) -> DeliveryError:
    """Redis's error in the words of Waypost; what Redis says is passed on only where it has no secret in it."""
    word = said.partition(" ")[0]
    if word in _MEANINGS:
        code, meaning, retryable = _MEANINGS[word]
        return DeliveryError(code, f"{server} {meaning}", retryable=retryable)
    if "unauthenticated" in said:
        return DeliveryError("bad_credentials", f"{server} wants a password", retryable=False)
    if "AUTH" in said:
        return DeliveryError("bad_credentials", f"{server} wants no password for this user", retryable=False)
    if "invalid bulk length" in said:
        return DeliveryError("message_too_large", f"The message is larger than {server} accepts", retryable=False)
    return DeliveryError("refused", f"{server} refused the command: {one_line(said)}", retryable=False)
