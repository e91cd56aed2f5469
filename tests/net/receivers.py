"""Real servers that answer as they are told: plain and TLS, HTTP/1.1 and HTTP/2, and a forward proxy."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET, socket

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "receiver.test"
"""The name that the tests' certificates are for and that their resolvers know."""


@dataclass
class Seen:
    """A request as a server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    names: list[str] = field(default_factory=list)
    connection: int = 0


class Exchange:
    """One request in the hands of an answer function."""

    def __init__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen = seen
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int = 200, body: bytes = b"ok", headers: str = "") -> None:
        await self.say(f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def reset(self) -> None:
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


Answer = Callable[[Exchange], Awaitable[None]]


async def ok(exchange: Exchange) -> None:
    await exchange.answer()


class OpenConnections:
    """The tasks that serve connections, to be ended with their server."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def add(self, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer

    async def end(self) -> None:
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)


class Receiver:
    """An HTTP/1.1 server. `seen` are the requests, `connections` how many sockets were accepted."""

    def __init__(self, answer: Answer = ok) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self.port = 0
        self.open = OpenConnections()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.connections += 1
        number = self.connections
        try:
            while (seen := await read_request(reader)) is not None:
                seen.connection = number
                self.seen.append(seen)
                await self.answer(Exchange(seen, reader, writer))
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.closed.set()
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().split("\r\n")[:-2]
    pairs = [line.split(":", 1) for line in lines]
    headers = {name.lower(): value.strip() for name, value in pairs}
    method, path, _ = first.split(" ")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body, [name for name, _ in pairs])


@contextlib.asynccontextmanager
async def receiver(answer: Answer = ok, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls, backlog=2048)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.open.end()


class H2Receiver(asyncio.Protocol):
    """An HTTP/2 server that answers each POST with its body's length; streams counted over all connections."""

    def __init__(self, log: list[H2Receiver], bodies: list[bytes]) -> None:
        log.append(self)
        self.bodies = bodies
        self.received: dict[int, bytes] = {}
        self.lost = asyncio.Event()
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connection.initiate_connection()
        self.transport.write(self.connection.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.reply(event.stream_id)
        self.transport.write(self.connection.data_to_send())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def reply(self, stream: int) -> None:
        body = self.received.get(stream, b"")
        self.bodies.append(body)
        self.connection.send_headers(stream, [(":status", "200"), ("x-length", str(len(body)))])
        self.connection.send_data(stream, b"two", end_stream=True)


@contextlib.asynccontextmanager
async def silent_port(accepts: bool = False) -> AsyncIterator[int]:
    """A port whose connections hang: never answered at all, or (`accepts`) accepted and left alone."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100 if accepts else 0)
        port = listener.getsockname()[1]
        fillers = [] if accepts else [socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        await asyncio.sleep(0)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


class Proxy:
    """A forward proxy: tunnels for CONNECT, passes absolute-form requests on. Every host is 127.0.0.1 to it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.port = 0
        self.open = OpenConnections()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, url, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            self.asked.append(f"{method} {url}")
            authority = url if method == "CONNECT" else url.split("/")[2]
            out_reader, out_writer = await asyncio.open_connection("127.0.0.1", int(authority.rpartition(":")[2]))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\nx-proxy: yes\r\n\r\n")
            else:
                out_writer.write(head)
            await asyncio.gather(pipe(reader, out_writer), pipe(out_reader, writer))
        writer.close()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxy() -> AsyncIterator[Proxy]:
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.open.end()


class Authority:
    """A throwaway certificate authority, as a PEM file and server contexts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        self._certificate = self._sign(name, name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.path = directory / "authority.pem"
        self.path.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def context(self, host: str = HOST, protocols: list[str] | None = None) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(IPv4Address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, self._certificate.subject, key, names)
        path = self.directory / f"{host}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def _sign(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())
