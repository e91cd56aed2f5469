"""As much of MQTT 5 as a publisher needs (OASIS standard, March 2019): connect, publish with QoS 1, keep alive."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.intake import Bounds, Violation
from waypost.net.wire import Wire

KEEP_ALIVE = 60
"""Seconds within which the broker hears of us, unless it asks for less."""

_HIGHEST_ID = 65_535
_LONGEST_TEXT = 65_535
_LENGTH_BYTES = 4
_MOST_IN_FLIGHT = 1_000

_CONNECT, _CONNACK, _PUBLISH, _PINGREQ, _DISCONNECT = 1, 2, 3, 12, 14
_QOS_1, _RETAIN = 0x02, 0x01
_CLEAN_START, _WITH_PASSWORD, _WITH_USER = 0x02, 0x40, 0x80

_FIRST_FAILURE = 0x80
_OLD_PROTOCOL = 0x01
_PACKET_TOO_LARGE = 0x95
_NO_SUBSCRIBERS = 0x10
_BAD_USER, _NOT_AUTHORIZED = 0x86, 0x87
"""To a wrong password brokers answer with either, as long as nothing but CONNECT was asked of them."""

# properties, section 2.2.2.2
_PAYLOAD_FORMAT, _CONTENT_TYPE, _USER = 0x01, 0x03, 0x26
_SERVER_KEEP_ALIVE, _RECEIVE_MAXIMUM, _MAXIMUM_QOS, _RETAIN_AVAILABLE, _MAXIMUM_PACKET = 0x13, 0x21, 0x24, 0x25, 0x27
_BYTES = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_SHORTS = frozenset({0x13, 0x21, 0x22, 0x23})
_LONGS = frozenset({0x02, 0x11, 0x18, 0x27})
_TEXTS = frozenset({0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F})

_REASONS = {
    0x01: ("protocol_error", "does not speak MQTT 5", False),
    0x80: ("refused", "refused without a reason", True),
    0x82: ("protocol_error", "sees an error in the protocol", True),
    0x83: ("refused", "refused for a reason of its own", True),
    0x84: ("protocol_error", "does not speak MQTT 5", False),
    0x85: ("bad_credentials", "does not accept the client id", False),
    0x86: ("bad_credentials", "did not accept the user name and password", False),
    0x87: ("access_denied", "does not allow the user to do this", False),
    0x88: ("unavailable", "is not available", True),
    0x89: ("unavailable", "is busy", True),
    0x8A: ("access_denied", "has banned this client", False),
    0x8B: ("unavailable", "is shutting down", True),
    0x8C: ("bad_credentials", "wants another way of signing in", False),
    0x8D: ("connection_reset", "did not hear of us in time", True),
    0x8E: ("connection_reset", "gave the session to another client", True),
    0x90: ("invalid_topic", "does not accept the topic", False),
    0x91: ("unavailable", "still works on a message with this number", True),
    0x93: ("unavailable", "has too many messages in hand", True),
    0x95: ("message_too_large", "does not accept messages of this size", False),
    0x96: ("throttled", "wants fewer messages in this time", True),
    0x97: ("quota_exceeded", "has no quota left for the user", True),
    0x99: ("refused", "does not accept the format of the data", False),
    0x9A: ("refused", "does not keep messages (retain)", False),
    0x9B: ("refused", "does not confirm messages (QoS 1)", False),
    0x9C: ("unavailable", "sends us to another server", True),
    0x9D: ("unavailable", "has moved to another server", False),
    0x9F: ("throttled", "wants fewer connections in this time", True),
}
"""Reason codes, section 2.4: code, what it says of the server, whether another try can succeed."""


class Limits(Struct, frozen=True):
    """What the broker can take, said in CONNACK (section 3.2.2.3). Seconds, bytes."""

    keep_alive: int = KEEP_ALIVE
    in_flight: int = _HIGHEST_ID
    packet: int = 0xFFFFFFFF
    confirms: bool = True
    keeps: bool = True


class Mqtt:
    """A connection to one broker, signed in. Raises DeliveryError for what the broker refuses."""

    def __init__(
        self,
        server: object,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds = Bounds(),  # noqa: B008 - a frozen value
    ) -> None:
        self._server = server
        self._wire: Wire[int, int] = Wire(server, reader, writer, bounds)
        self._limits = Limits()
        self._room = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._last_id = 0
        self._one_ping = asyncio.Lock()
        self._pinging: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._wire.alive

    async def sign_in(self, client_id: str, username: str | None, password: str | None) -> None:
        """Introduce ourselves, and learn what the broker can take."""
        await self._wire.tell(_connect(client_id, username, password))
        kind, content = await self._packet()
        if kind != _CONNACK or len(content) < 2:  # noqa: PLR2004 - flags and reason
            raise ValueError("not the answer to CONNECT")
        if content[1] < _FIRST_FAILURE and content[1] not in {0, _OLD_PROTOCOL}:
            raise Violation("a reason that CONNACK cannot have (section 3.2.2.2)")
        if content[1]:
            raise refusal(_BAD_USER if content[1] == _NOT_AUTHORIZED else content[1], self._server)
        self._limits = _limits(content[2:])
        if not self._limits.confirms:
            raise refusal(0x9B, self._server)
        self._room = asyncio.Semaphore(min(self._limits.in_flight, _MOST_IN_FLIGHT))
        self._wire.read_with(self._read_one)
        self._pinging = asyncio.ensure_future(self._keep_alive())

    async def publish(
        self, topic: str, payload: bytes, user: Mapping[str, str], *, content_type: str, retain: bool
    ) -> bool:
        """Publish, and wait for the broker's PUBACK: whether anybody has subscribed to the topic."""
        if retain and not self._limits.keeps:
            raise refusal(0x9A, self._server)
        properties = _properties(content_type, user)
        await self._room.acquire()
        number = self._next_id()
        packet = _publish(number, topic, payload, properties, retain=retain)
        if len(packet) > self._limits.packet:
            self._room.release()
            raise refusal(_PACKET_TOO_LARGE, self._server)
        try:
            reason = await self._wire.ask(number, packet)
        except DeliveryError:
            self._room.release()  # the connection is lost: the next in line shall hear of it too
            raise
        if reason >= _FIRST_FAILURE:
            raise refusal(reason, self._server)
        return reason != _NO_SUBSCRIBERS

    async def ping(self) -> None:
        """Have the broker answer."""
        async with self._one_ping:
            await self._wire.ask(0, bytes((_PINGREQ << 4, 0)))

    async def close(self) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
        if self._wire.alive:
            await self._wire.tell(bytes((_DISCONNECT << 4, 0)))
        await self._wire.close()

    def _next_id(self) -> int:
        """A packet id that is not in use; there are more of them than messages in flight."""
        while True:
            self._last_id = self._last_id % _HIGHEST_ID + 1
            if not self._wire.waits(self._last_id):
                return self._last_id

    async def _keep_alive(self) -> None:
        while self._limits.keep_alive and self._wire.alive:
            await asyncio.sleep(self._limits.keep_alive / 2)
            await self._wire.tell(bytes((_PINGREQ << 4, 0)))

    # what the broker says

    async def _packet(self) -> tuple[int, bytes]:
        intake = self._wire.intake
        first = (await intake.exactly(1))[0]
        size = 0
        for place in range(_LENGTH_BYTES):  # section 1.5.5
            byte = (await intake.exactly(1))[0]
            size |= (byte & 0x7F) << 7 * place
            if not byte & 0x80:
                return first >> 4, await intake.exactly(size)
        raise Violation("a length that does not end")

    async def _read_one(self) -> None:
        kind, content = await self._packet()
        match kind:
            case 4:  # PUBACK
                number = int.from_bytes(content[:2])
                if self._wire.waits(number):
                    self._room.release()
                self._wire.answer(number, content[2] if len(content) > 2 else 0)  # noqa: PLR2004 - section 3.4.2.1
            case 13:  # PINGRESP
                self._wire.answer(0, 0)
            case 14:  # DISCONNECT
                self._wire.lose(self._disconnected(content[0] if content else 0))
            case _:
                raise ValueError("not a packet for a publisher")

    def _disconnected(self, reason: int) -> DeliveryError:
        """Why the broker hangs up. Which of several messages was too large for it, it does not say: all try again."""
        error = refusal(reason, self._server)
        if reason == _PACKET_TOO_LARGE and self._wire.waiting == 1:
            return error
        return DeliveryError("connection_reset", f"{error.sentence} and closed the connection")


def refusal(reason: int, server: object) -> DeliveryError:
    """A reason code in the words of Waypost."""
    code, meaning, retryable = _REASONS.get(reason, ("refused", f"refused with reason code {reason:#04x}", True))
    return DeliveryError(code, f"{server} {meaning}", retryable=retryable)


# packets


def _connect(client_id: str, username: str | None, password: str | None) -> bytes:
    flags = _CLEAN_START | (_WITH_USER if username else 0) | (_WITH_PASSWORD if password else 0)
    texts = [client_id, *(text for text in (username, password) if text)]
    head = _text("MQTT") + struct.pack(">BBH", 5, flags, KEEP_ALIVE) + b"\x00"
    return _framed(_CONNECT << 4, head, b"".join(_text(text) for text in texts))


def _publish(number: int, topic: str, payload: bytes, properties: bytes, *, retain: bool) -> bytes:
    first = _PUBLISH << 4 | _QOS_1 | (_RETAIN if retain else 0)
    return _framed(first, _text(topic), number.to_bytes(2), properties, payload)


def _properties(content_type: str, user: Mapping[str, str]) -> bytes:
    parts = [bytes((_PAYLOAD_FORMAT, 1)), bytes((_CONTENT_TYPE,)) + _text(content_type)]
    parts += [bytes((_USER,)) + _text(key) + _text(value) for key, value in user.items()]
    return _sized(b"".join(parts))


def _text(text: str) -> bytes:
    """UTF-8 with its length before it (section 1.5.4), which may hold no U+0000."""
    encoded = text.replace("\x00", "\ufffd").encode()
    if len(encoded) > _LONGEST_TEXT:
        raise DeliveryError("message_too_large", "A value of the metadata is too long for MQTT", retryable=False)
    return len(encoded).to_bytes(2) + encoded


def _framed(first: int, *parts: bytes) -> bytes:
    return bytes((first,)) + _sized(b"".join(parts))


def _sized(content: bytes) -> bytes:
    """The content with its length before it, seven bits a byte (section 1.5.5)."""
    size, head = len(content), bytearray()
    while True:
        size, low = divmod(size, 0x80)
        head.append(low | (0x80 if size else 0))
        if not size:
            return bytes(head) + content


def _limits(properties: bytes) -> Limits:
    """Raises ValueError for properties that are none."""
    found = dict(_numbers(properties))
    if 0 in (found.get(_RECEIVE_MAXIMUM), found.get(_MAXIMUM_PACKET)):
        raise Violation("a broker that takes nothing (sections 3.2.2.3.3 and 3.2.2.3.6)")
    return Limits(
        keep_alive=found.get(_SERVER_KEEP_ALIVE, KEEP_ALIVE),
        in_flight=found.get(_RECEIVE_MAXIMUM, _HIGHEST_ID),
        packet=found.get(_MAXIMUM_PACKET, 0xFFFFFFFF),
        confirms=found.get(_MAXIMUM_QOS, 1) > 0,
        keeps=found.get(_RETAIN_AVAILABLE, 1) > 0,
    )


def _numbers(properties: bytes) -> Iterable[tuple[int, int]]:
    """The properties that are numbers; texts are passed over."""
    at = 0
    while at < len(properties) and properties[at] & 0x80:
        at += 1
    at += 1
    while at < len(properties):
        kind, at = properties[at], at + 1
        if kind in _TEXTS or kind == _USER:
            for _ in range(2 if kind == _USER else 1):
                at += 2 + int.from_bytes(properties[at : at + 2])
            continue
        size = 1 if kind in _BYTES else 2 if kind in _SHORTS else 4 if kind in _LONGS else 0
        if not size:
            raise ValueError("not a property of MQTT 5")
        yield kind, int.from_bytes(properties[at : at + size])
        at += size
