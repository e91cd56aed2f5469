"""Every type that speaks to a server over a socket, against servers that mean harm.

Whatever a server says or does not say, the attempt ends as a named failure, what is read is bounded, others on the
event loop have their turn meanwhile, and no traceback is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from typing import Any, Self, TypeAlias, cast

import pamqp.frame
import pytest
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from tests.alerts.kit import connected, local_tools, notice
from tests.destinations.messages import message
from waypost.alerts.email import EmailType
from waypost.connect.connector import Tools
from waypost.connect.registry import Registry
from waypost.core.errors import DeliveryError
from waypost.net.failure import one_line
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.intake import LINE, Bounds, Intake
from waypost.net.resolve import GuardedResolver, SystemResolver

from .seam import destination

KINDS = Registry.discover()
FRAME = 65_536
BOUNDS = Bounds(frame=FRAME, unasked=50)
SENT_AT_MOST = 8 << 20
"""What a server has sent when it has long been hung up on; it stops by itself then."""
READ_AT_MOST = 4 * FRAME
BUFFERED_AT_MOST = 2 * LINE + FRAME + (256 << 10)
"""What StreamReader holds before it stops, a message that it waits for, and one read of the socket."""

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]

CONFIG = {
    "mqtt": ({"server": "{}", "tls": "false"}, {"username": "u", "password": "p"}),
    "redis": ({"server": "{}", "tls": "false", "stream": "s"}, {"password": "p"}),
    "nats": ({"servers": "{}", "tls": "false"}, {"username": "u", "password": "p"}),
    "rabbitmq": ({"server_url": "{}", "exchange": "e", "tls": "false"}, {"username": "u", "password": "p"}),
    "kafka": (
        {"brokers": "{}", "topic": "t", "tls": "false", "sasl_mechanism": "none"},
        {},
    ),
}
kinds = pytest.mark.parametrize("kind", CONFIG)

pytestmark = [pytest.mark.slow]


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Any:
    """What the event loop and the loggers have to say; the test ends with none of it."""
    caplog.set_level(logging.WARNING)
    loop_said: list[dict[str, Any]] = []
    yield loop_said
    gc.collect()
    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR
    ] == []
    assert loop_said == []


@pytest.fixture
def intakes(monkeypatch: pytest.MonkeyPatch) -> list[Intake]:
    """All that was read from servers, connection by connection."""
    made: list[Intake] = []
    original = Intake.__init__

    def note(self: Intake, *arguments: Any) -> None:
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Intake, "__init__", note)
    return made


class Bystander:
    """Another coroutine on the loop, which counts its turns: in each, a connection may read `turn` messages."""

    def __init__(self, intakes: list[Intake]) -> None:
        self._intakes = intakes
        self.turns = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for intake in self._intakes:
            assert intake.messages <= BOUNDS.turn * (self.turns + 1)
            assert intake.taken <= READ_AT_MOST
            assert len(intake._reader._buffer) <= BUFFERED_AT_MOST  # type: ignore[attr-defined]

    async def _count(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


class Hostile:
    """A server that does to each connection what it is told, and counts what it could send."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.sent = 0
        self.connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        self._tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        with contextlib.suppress(OSError, EOFError, RuntimeError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.transport.abort()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def hostile(serve: Serve) -> AsyncIterator[Hostile]:
    made = Hostile(serve)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()


async def attempt(kind: str, port: int, *, patience: float = 0.5) -> DeliveryError:
    """The failure of one attempt, seen from the destination type; the loop's complaints go to its handler."""
    guard = AddressGuard([ip_network("127.0.0.0/8")])
    tools = Tools(
        http=cast("HttpClient", None),
        guard=guard,
        resolver=GuardedResolver(SystemResolver(), guard),
        options={f"{kind}_timeout": patience},
        bounds=BOUNDS,
    )
    config, credentials = CONFIG[kind]
    config = {key: value.format(f"127.0.0.1:{port}") for key, value in config.items()}
    connection = await KINDS[kind].connect(destination(KINDS[kind], config, credentials), tools)
    try:
        with pytest.raises(DeliveryError) as caught:
            async with asyncio.timeout(patience * 4 + 5):
                await connection.send(message())
    finally:
        await connection.close()
    assert len(caught.value.sentence) < 400
    assert caught.value.sentence.isprintable()
    return caught.value


# what a server can say as soon as it is called


def endless(byte: bytes) -> Serve:
    async def serve(reader: Reader, writer: Writer) -> None:
        for _ in range(SENT_AT_MOST // 65_536):
            writer.write(byte * 65_536)
            await writer.drain()

    return serve


def garbage(seed: int) -> Serve:
    async def serve(reader: Reader, writer: Writer) -> None:
        dice = random.Random(seed)
        for _ in range(SENT_AT_MOST // 65_536):
            writer.write(dice.randbytes(65_536))
            await writer.drain()

    return serve


async def silence(reader: Reader, writer: Writer) -> None:
    await asyncio.Event().wait()


async def hang_up(reader: Reader, writer: Writer) -> None:
    writer.close()


async def hang_up_after_a_word(reader: Reader, writer: Writer) -> None:
    await reader.read(1)
    writer.close()


def trickle(byte: bytes) -> Serve:
    async def serve(reader: Reader, writer: Writer) -> None:
        for _ in range(1_000):
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(0.01)

    return serve


SPEECHES: dict[str, Serve] = {
    **{f"endless {byte!r}": endless(byte) for byte in (b"\x00", b"\x7f", b"\xff", b"*", b"\r\n", b"+")},
    **{f"garbage {seed}": garbage(seed) for seed in range(3)},
    "silence": silence,
    "hang up": hang_up,
    "hang up after a word": hang_up_after_a_word,
    "trickle 0": trickle(b"\x00"),
    "trickle 255": trickle(b"\xff"),
    "trickle x": trickle(b"x"),
}
NAMED = {"protocol_error", "connection_reset", "timeout"}


@kinds
@pytest.mark.parametrize("speech", SPEECHES)
async def test_whatever_is_said_at_first(kind: str, speech: str, complaints: list[Any], intakes: list[Intake]) -> None:
    error = await suffered(kind, SPEECHES[speech], complaints, intakes)
    assert error.code in NAMED, error
    if speech.startswith(("endless", "garbage")):
        assert error.code == "protocol_error", error


async def suffered(kind: str, serve: Serve, complaints: list[Any], intakes: list[Intake]) -> DeliveryError:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with hostile(serve) as server, Bystander(intakes):
        error = await attempt(kind, server.port)
    await asyncio.sleep(0)
    return error


async def mailed(serve: Serve, complaints: list[Any]) -> DeliveryError:
    """The failure of one alert by e-mail."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with (
        hostile(serve) as server,
        local_tools(
            email_server=f"smtp+plain://127.0.0.1:{server.port}", email_from="a@waypost.example", email_timeout=0.5
        ) as tools,
        connected(EmailType(), {"to": "ops@example.com"}, {}, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert len(caught.value.sentence) < 600
    assert caught.value.sentence.isprintable()
    return caught.value


MAIL = {
    "a greeting of many lines": b"220-hello\r\n",
    "a line that does not end": b"220 " + b"x" * 60_000,
    "a refusal that does not end": b"554-\x1b[2J no\r\n",
}


@pytest.mark.parametrize("speech", [*SPEECHES, *MAIL])
async def test_a_mail_server(speech: str, complaints: list[Any]) -> None:
    error = await mailed(SPEECHES[speech] if speech in SPEECHES else said_again(MAIL[speech]), complaints)
    assert error.code in NAMED, error


def said_again(words: bytes) -> Serve:
    async def serve(reader: Reader, writer: Writer) -> None:
        for _ in range(SENT_AT_MOST // len(words)):
            writer.write(words)
            await writer.drain()

    return serve


# servers that know their protocol


async def _mqtt(reader: Reader, writer: Writer) -> None:
    await reader.read(65_536)
    writer.write(b"\x20\x03\x00\x00\x00")


async def _redis(reader: Reader, writer: Writer) -> None:
    await reader.read(65_536)
    writer.write(b"+OK\r\n")


async def _nats(reader: Reader, writer: Writer) -> None:
    writer.write(b'INFO {"headers":true,"max_payload":1048576}\r\n')
    await reader.readuntil(b"PING\r\n")
    writer.write(b"PONG\r\n")


def amqp(frame: Any, channel: int = 0) -> bytes:
    return pamqp.frame.marshal(frame, channel)


async def _amqp_frame(reader: Reader) -> bytes:
    head = await reader.readexactly(7)
    return head + await reader.readexactly(int.from_bytes(head[3:7]) + 1)


async def _rabbitmq(reader: Reader, writer: Writer) -> None:
    await reader.readexactly(8)
    capabilities: Any = {"capabilities": {"publisher_confirms": True, "basic.nack": True}}
    writer.write(amqp(commands.Connection.Start(0, 9, capabilities, "PLAIN", "en_US")))
    await _amqp_frame(reader)
    writer.write(amqp(commands.Connection.Tune(2047, 131_072, 60)))
    await _amqp_frame(reader)
    await _amqp_frame(reader)
    writer.write(amqp(commands.Connection.OpenOk()))
    await _amqp_frame(reader)
    writer.write(amqp(commands.Channel.OpenOk(), 1))
    await _amqp_frame(reader)
    writer.write(amqp(commands.Confirm.SelectOk(), 1))


async def _kafka_answer(reader: Reader, writer: Writer, body: bytes) -> None:
    size = int.from_bytes(await reader.readexactly(4))
    request = await reader.readexactly(size)
    writer.write((len(body) + 4).to_bytes(4) + request[4:8] + body)


async def _kafka(reader: Reader, writer: Writer) -> None:
    """Versions of all that is asked for: ApiVersions (v0) says 0 to 1 of everything."""
    versions = b"".join(key.to_bytes(2) + b"\x00\x00\x00\x01" for key in range(40))
    await _kafka_answer(reader, writer, b"\x00\x00" + (40).to_bytes(4) + versions)


SIGN_IN: dict[str, Serve] = {"mqtt": _mqtt, "redis": _redis, "nats": _nats, "rabbitmq": _rabbitmq, "kafka": _kafka}


def after_sign_in(kind: str, words: bytes, *, times: int | None = None) -> Serve:
    """Sign in, then say the same again and again."""
    block = words if times is not None else words * max(1, 65_536 // len(words))

    async def serve(reader: Reader, writer: Writer) -> None:
        await SIGN_IN[kind](reader, writer)
        for _ in range(times if times is not None else SENT_AT_MOST // len(block) + 1):
            writer.write(block)
            await writer.drain()
        await asyncio.Event().wait()

    return serve


def amqp_tables(depth: int, kind: bytes = b"F") -> bytes:
    table = b""
    for _ in range(depth):
        table = (b"\x01k" if kind == b"F" else b"") + kind + len(table).to_bytes(4) + table
    if kind != b"F":
        table = b"\x01k" + table
    table = len(table).to_bytes(4) + table
    content = b"\x00\x0a\x00\x0a\x00\x09" + table + b"\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US"
    return b"\x01\x00\x00" + len(content).to_bytes(4) + content + b"\xce"


def returned(size: int, frame: int) -> bytes:
    """A message that comes back, with a body of a size that nobody sent."""
    header = ContentHeader(0, size, commands.Basic.Properties(message_id="m"))
    parts = [amqp(commands.Basic.Return(312, "NO_ROUTE", "e", "k"), 1), amqp(header, 1)]
    return b"".join(parts) + amqp(ContentBody(b"x" * frame), 1) * (size // frame)


INFO = b'INFO {"headers":true}\r\n'
FLOODS = {
    ("mqtt", "acknowledgements"): b"\x40\x02\x12\x34",
    ("mqtt", "answers to pings"): b"\xd0\x00",
    ("mqtt", "endless lengths"): b"\xff",
    ("mqtt", "endless zeros"): b"\x40\x00",
    ("redis", "replies"): b"+OK\r\n",
    ("redis", "numbers"): b":1\r\n",
    ("redis", "nothing"): b"$-1\r\n",
    ("redis", "errors"): b"-ERR no\r\n",
    ("redis", "nesting"): b"*1\r\n",
    ("redis", "pushes"): b">1\r\n+x\r\n",
    ("nats", "pings"): b"PING\r\n",
    ("nats", "pongs"): b"PONG\r\n",
    ("nats", "news"): INFO,
    ("nats", "news without end"): INFO[:-3] + b'"' + b"x" * 60_000 + b"\r\n",
    ("nats", "praise"): b"+OK\r\n",
    ("nats", "blame"): b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
    ("nats", "messages"): b"MSG _INBOX.x.99 1 2\r\n{}\r\n",
    ("rabbitmq", "heartbeats"): b"\x08\x00\x00\x00\x00\x00\x00\xce",
    ("rabbitmq", "acknowledgements"): b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50" + bytes(7) + b"\x63\x00\xce",
    ("rabbitmq", "of a channel that is none"): b"\x01\x00\x09\x00\x00\x00\x0d\x00\x3c\x00\x50" + bytes(9) + b"\xce",
    ("rabbitmq", "blocked"): amqp(commands.Connection.Blocked("x")),
    ("rabbitmq", "returned"): returned(1 << 20, 65_000),
    ("rabbitmq", "returned in crumbs"): returned(100_000, 1),
    ("rabbitmq", "bodies"): amqp(ContentBody(b"x" * 60_000), 1),
    ("kafka", "answers"): b"\x00\x00\x00\x04\x00\x00\x00\x63",
    ("kafka", "nothing"): b"\x00\x00\x00\x00",
}
HUGE = {
    ("mqtt", "256 MiB"): b"\x40\xff\xff\xff\x7f",
    ("mqtt", "too many bytes of length"): b"\x40\x80\x80\x80\x80\x01",
    ("redis", "a text of 2 GiB"): b"$2147483647\r\n",
    ("redis", "a number of many digits"): b":" + b"9" * 50_000 + b"\r\n",
    ("redis", "an array of 2 GiB"): b"*2147483647\r\n",
    ("nats", "2 GiB"): b"MSG _INBOX.x.1 1 2147483647\r\n",
    ("nats", "less than nothing"): b"MSG _INBOX.x.1 1 -5\r\n",
    ("nats", "a head larger than the message"): b"HMSG _INBOX.x.1 1 9 2\r\n",
    ("nats", "no size"): b"MSG\r\n",
    ("nats", "no number"): b"MSG a.b.c 1 2\r\n{}\r\n",
    ("nats", "deep JSON"): b"MSG _INBOX.x.0 1 40009\r\n" + b'{"error":' + b"[" * 40_000 + b"\r\n",
    ("rabbitmq", "4 GiB"): b"\x01\x00\x00\xff\xff\xff\xfe",
    ("rabbitmq", "4 GiB of a body"): b"\x03\x00\x01\xff\xff\xff\xfe",
    ("rabbitmq", "deep tables"): amqp_tables(1_000),
    ("rabbitmq", "deep lists"): amqp_tables(1_000, b"A"),
    ("rabbitmq", "wide tables"): b"\x01\x00\x00\x00\x00\xff\x00" + b"\x00V" * 32_640,
    ("rabbitmq", "a header of garbage"): b"\x02\x00\x01\x00\x00\x00\x14" + b"\xff" * 20 + b"\xce",
    ("rabbitmq", "a frame of a kind that is none"): b"\x09\x00\x00\x00\x00\x00\x00\xce",
    ("kafka", "2 GiB"): b"\x7f\xff\xff\xff",
    ("kafka", "less than nothing"): b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize(("kind", "what"), FLOODS)
async def test_floods_after_the_sign_in(kind: str, what: str, complaints: list[Any], intakes: list[Intake]) -> None:
    error = await suffered(kind, after_sign_in(kind, FLOODS[kind, what]), complaints, intakes)
    expected = {("redis", "errors"): "refused"}
    assert error.code == expected.get((kind, what), "protocol_error"), error


@pytest.mark.parametrize(("kind", "what"), HUGE)
async def test_what_is_declared_but_never_comes(
    kind: str, what: str, complaints: list[Any], intakes: list[Intake]
) -> None:
    error = await suffered(kind, after_sign_in(kind, HUGE[kind, what], times=1), complaints, intakes)
    assert error.code == "protocol_error", error


@kinds
@pytest.mark.parametrize("step", range(8))
async def test_hanging_up_at_each_step(kind: str, step: int, complaints: list[Any], intakes: list[Intake]) -> None:
    """After each read of a server that would go on: half of what it says is lost."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await SIGN_IN[kind](cast("Reader", _Steps(reader, step)), writer)
        await reader.read(1)

    error = await suffered(kind, serve, complaints, intakes)
    assert error.code in NAMED, error


class _Steps:
    """A reader that hangs up after so many reads."""

    def __init__(self, reader: Reader, steps: int) -> None:
        self._reader = reader
        self._steps = steps

    async def read(self, size: int) -> bytes:
        return await self._step(self._reader.read(size))

    async def readexactly(self, size: int) -> bytes:
        return await self._step(self._reader.readexactly(size))

    async def readuntil(self, end: bytes) -> bytes:
        return await self._step(self._reader.readuntil(end))

    async def _step(self, reading: Awaitable[bytes]) -> bytes:
        content = await reading
        self._steps -= 1
        if self._steps < 0:
            raise EOFError
        return content


@kinds
async def test_a_server_that_signs_in_and_says_no_more(kind: str, complaints: list[Any], intakes: list[Intake]) -> None:
    error = await suffered(kind, after_sign_in(kind, b"", times=0), complaints, intakes)
    assert error.code == "timeout", error


NASTY = "\x1b[2J\r\n" + "no " * 500


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("redis", b"-ERR " + NASTY.replace("\r\n", "\x00").encode() + b"\r\n"),
        ("nats", b"-ERR '" + NASTY.replace("\r\n", "\x00").encode() + b"'\r\n"),
        ("nats", b"-ERR 'Permissions Violation for Publish to \"order.created\x1b\"'\r\n"),
    ],
)
async def test_what_a_server_says_is_kept_short_and_clean(
    kind: str, words: bytes, complaints: list[Any], intakes: list[Intake]
) -> None:
    await suffered(kind, after_sign_in(kind, words, times=1), complaints, intakes)


def test_words_of_a_server() -> None:
    assert one_line("a\x1b[2J\r\n\u202eb\x00 \tc") == "a [2J b c"
    assert len(one_line("x y " * 1_000, 100)) == 100
