"""A name server that answers as it is told, over UDP and TCP (RFC 1035)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

A, CNAME, AAAA = 1, 5, 28
NO_SUCH_NAME, SERVER_FAILURE, REFUSED = 3, 2, 5
Answer = list[tuple[str, int, bytes]] | int | bytes | None
"""Records (name, type, data), a response code, bytes as they are, or no answer at all."""


def address_record(name: str, address: str) -> tuple[str, int, bytes]:
    parsed = ip_address(address)
    return name, A if isinstance(parsed, IPv4Address) else AAAA, parsed.packed


def alias(name: str, target: str) -> tuple[str, int, bytes]:
    return name, CNAME, encoded(target)


def encoded(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\x00"


class NameServer:
    """`answer` is asked with the name and the type of record of every question."""

    def __init__(self, answer: Callable[[str, int], Answer]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, int]] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def reply(self, question: bytes, *, most: int | None) -> bytes | None:
        name, kind, end = _question(question)
        self.asked.append((name, kind))
        found = self._answer(name, kind)
        if found is None or isinstance(found, bytes):
            return found
        records = [] if isinstance(found, int) else found
        code = found if isinstance(found, int) else 0
        body = b"".join(
            encoded(owner) + struct.pack(">HHIH", type_, 1, 0, len(data)) + data for owner, type_, data in records
        )
        cut = most is not None and len(body) + end > most
        flags = 0x8180 | code | (0x0200 if cut else 0)
        head = question[:2] + struct.pack(">HHHHH", flags, 1, 0 if cut else len(records), 0, 0)
        return head + question[12:end] + (b"" if cut else body)


def _question(packet: bytes) -> tuple[str, int, int]:
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels).lower(), int.from_bytes(packet[at + 1 : at + 3]), at + 5


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # as asyncio does
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.reply(data, most=1_200)
        if answer is not None:
            self._transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def name_server(answer: Callable[[str, int], Answer]) -> AsyncIterator[NameServer]:
    made = NameServer(answer)

    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                question = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                reply = made.reply(question, most=None)
                if reply is not None:
                    writer.write(len(reply).to_bytes(2) + reply)
        writer.close()

    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(made), local_addr=("127.0.0.1", made.port))
    try:
        yield made
    finally:
        udp.close()
        tcp.close()
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


__all__ = ["AAAA", "A", "Answer", "IPv6Address", "NameServer", "address_record", "alias", "name_server"]
