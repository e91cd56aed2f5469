"""As much of NATS as a publisher to JetStream needs: sign in, publish with headers, wait for the stream's answer."""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections.abc import Mapping
from itertools import count
from typing import Any, Literal

import msgspec
from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.dial import dial, network_error
from waypost.net.failure import one_line
from waypost.net.hosts import HostPort
from waypost.net.intake import Bounds, Violation
from waypost.net.resolve import Resolver
from waypost.net.wire import Wire, protocol_error

_VERSION_LINE = b"NATS/1.0"
_NO_RESPONDERS = b"NATS/1.0 503"
_PUBLISH_VIOLATION = re.compile(r"permissions violation for publish to \"([^\"]*)\"", re.IGNORECASE)
_TOO_LARGE = 10054
_OUT_OF_ROOM = frozenset({10023, 10047, 10077})
"""JetStream's error codes: message larger than the stream takes; memory, storage or the stream's bounds exhausted."""


class Info(Struct, frozen=True):
    """What a server says of itself when it is called."""

    max_payload: int = 1 << 20
    headers: bool = False
    tls_required: bool = False
    tls_available: bool = False


class Ack(Struct, frozen=True):
    """JetStream's answer: the stream and the number in it, or an error."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


class Nats:
    """A connection to one server, signed in. Raises DeliveryError for what the server refuses."""

    def __init__(
        self,
        server: HostPort,
        info: Info,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds,
    ) -> None:
        self._server = server
        self._info = info
        self._wire: Wire[int, Ack] = Wire(server, reader, writer, bounds)
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._sent = count()
        self._pongs = count(-1, -1)
        self._asked_pongs = count(-1, -1)
        self._subjects: dict[int, str] = {}
        self._wire.read_with(self._read_one)

    @classmethod
    async def open(
        cls,
        server: HostPort,
        resolver: Resolver,
        tls: ssl.SSLContext | None,
        credentials: Mapping[str, str],
        bounds: Bounds = Bounds(),  # noqa: B008 - a frozen value
    ) -> Nats:
        reader, writer = await dial(server, resolver)
        try:
            info = await _greeting(reader, server)
            await _secure(writer, server, info, tls)
        except OSError as error:
            writer.close()
            raise network_error(error, server) from error
        except BaseException:
            writer.close()
            raise
        client = cls(server, info, reader, writer, bounds)
        try:
            await client._sign_in(credentials, secured=tls is not None)
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def alive(self) -> bool:
        return self._wire.alive

    async def publish(self, subject: str, headers: Mapping[str, str], body: bytes) -> Ack:
        """Publish, and wait until a stream has stored the message."""
        head = _head(headers)
        if len(head) + len(body) > self._info.max_payload:
            sentence = f"The message is larger than the {self._info.max_payload} bytes that {self._server} accepts"
            raise DeliveryError("message_too_large", sentence, retryable=False)
        number = next(self._sent)
        self._subjects[number] = subject
        line = f"HPUB {subject} {self._inbox}.{number} {len(head)} {len(head) + len(body)}\r\n".encode()
        try:
            ack = await self._wire.ask(number, b"".join((line, head, body, b"\r\n")))
        finally:
            self._subjects.pop(number, None)
        if ack.error is not None:
            raise _refusal(ack.error, self._server)
        return ack

    async def ping(self) -> None:
        """Have the server answer: whatever it had against what was sent before, it has said by then."""
        await self._wire.ask(next(self._asked_pongs), b"PING\r\n")

    async def close(self) -> None:
        await self._wire.close()

    async def _sign_in(self, credentials: Mapping[str, str], *, secured: bool) -> None:
        hello = {
            "verbose": False,
            "pedantic": False,
            "tls_required": secured,
            "name": "waypost",
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
        }
        hello |= {name: credentials[key] for key, name in _CREDENTIALS.items() if credentials.get(key)}
        await self._wire.tell(b"CONNECT %b\r\nSUB %b.* 1\r\n" % (msgspec.json.encode(hello), self._inbox.encode()))
        await self.ping()

    # what the server says

    async def _read_one(self) -> None:
        line = await self._wire.intake.line()
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"MSG":
                await self._message(rest.split(), has_head=False)
            case b"HMSG":
                await self._message(rest.split(), has_head=True)
            case b"PING":
                await self._wire.tell(b"PONG\r\n")
            case b"PONG":
                self._wire.answer(next(self._pongs), Ack())
            case b"-ERR":
                self._error(rest.decode("utf-8", "replace").strip("' "))
            case b"INFO" | b"+OK":
                pass  # the servers of a cluster that INFO tells of are never used: nobody has checked them
            case _:
                raise ValueError("not a verb of NATS")

    async def _message(self, words: list[bytes], *, has_head: bool) -> None:
        size = int(words[-1])
        head_size = int(words[-2]) if has_head else 0
        if not 0 <= head_size <= size:
            raise Violation("a message that is shorter than its head")
        content = (await self._wire.intake.exactly(size + 2))[:-2]
        number = int(words[0].rpartition(b".")[2])
        head, body = content[:head_size], content[head_size:]
        if head.startswith(_NO_RESPONDERS):
            subject = self._subjects.get(number, "")
            sentence = f"No JetStream stream at {self._server} takes the subject {subject}"
            self._wire.refuse(number, DeliveryError("no_such_stream", sentence, retryable=False))
            return
        self._wire.answer(number, read_json(body, type=Ack))

    def _error(self, said: str) -> None:
        """The server's complaint. Only one about permissions leaves the connection open."""
        lower = said.lower()
        if "authorization violation" in lower or "authentication" in lower:
            sentence = f"{self._server} did not accept the credentials"
            self._wire.lose(DeliveryError("bad_credentials", sentence, retryable=False))
        elif (found := _PUBLISH_VIOLATION.search(said)) is not None:
            self._forbid(found[1])
        elif "permissions violation" in lower:
            sentence = f"The user may not subscribe to _INBOX.> at {self._server}, where answers arrive"
            self._wire.lose(DeliveryError("access_denied", sentence, retryable=False))
        else:
            self._wire.lose(
                DeliveryError("connection_reset", f"{self._server} closed the connection: {one_line(said)}")
            )

    def _forbid(self, subject: str) -> None:
        sentence = f"The user may not publish to {one_line(subject)} at {self._server}"
        for number in [number for number, known in self._subjects.items() if known == subject]:
            self._wire.refuse(number, DeliveryError("access_denied", sentence, retryable=False))


_CREDENTIALS = {"username": "user", "password": "pass", "token": "auth_token"}


async def _greeting(reader: asyncio.StreamReader, server: HostPort) -> Info:
    try:
        verb, _, rest = (await reader.readuntil(b"\r\n")).partition(b" ")
        info = read_json(rest, type=Info)
    except EOFError as error:
        raise network_error(error, server) from error
    except (ValueError, RecursionError, asyncio.LimitOverrunError) as error:
        raise protocol_error(server) from error
    if verb != b"INFO" or not info.headers:
        raise protocol_error(server)
    return info


async def _secure(writer: asyncio.StreamWriter, server: HostPort, info: Info, tls: ssl.SSLContext | None) -> None:
    """Change to TLS where it is asked for, and never go on without it then: credentials come next."""
    if tls is None:
        if info.tls_required:
            raise DeliveryError("tls_error", f"{server} wants TLS, which is turned off", retryable=False)
        return
    if not (info.tls_required or info.tls_available):
        raise DeliveryError("tls_error", f"{server} offers no TLS", retryable=False)
    await writer.start_tls(tls, server_hostname=server.host)


def _head(headers: Mapping[str, str]) -> bytes:
    lines = [_VERSION_LINE, *(f"{key}: {value}".encode() for key, value in headers.items()), b"", b""]
    return b"\r\n".join(lines)


def _refusal(error: Mapping[str, Any], server: HostPort) -> DeliveryError:
    number, said = error.get("err_code"), one_line(str(error.get("description", "")))
    if number == _TOO_LARGE:
        return DeliveryError("message_too_large", "The message is larger than the stream accepts", retryable=False)
    if number in _OUT_OF_ROOM:
        return DeliveryError("stream_full", f"The stream has no room for the message: {said}")
    retryable: Literal[True, False] = error.get("code") == 503  # noqa: PLR2004 - "unavailable", as in HTTP
    return DeliveryError(
        "unavailable" if retryable else "refused", f"{server} refused the message: {said}", retryable=retryable
    )
