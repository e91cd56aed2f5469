"""What failures leave behind: each kind of failure of each destination type many times, then what has grown.

    python -m bench.soak [TYPE ...] [--failures 10000] [--kind KIND] [--payload 20000]

Attempts go the way of the dispatcher's (`flow/attempt.py`), to servers of 127.0.0.1 that fail as they are told. After a
warm-up, the same number of failures is made twice: references to the event's body, counts of live objects by type,
resident memory and descriptors must be after the second what they were after the first. While they are made, the
garbage collector is off: no body may need it to be freed. Before objects are counted it runs, for what libraries leave
to it; objects that lead back to themselves where it cannot look are what remains.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import re
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, create_server, socket
from threading import Thread

import structlog
from msgspec import Struct

from waypost.connect.connector import Tools
from waypost.connect.registry import Registry
from waypost.core.errors import DeliveryError, Unavailable
from waypost.core.model import SECOND, Delivery, Destination, Event
from waypost.core.retry import RetryPolicy
from waypost.core.signing import make_secret
from waypost.flow import clock
from waypost.flow.attempt import Attempts
from waypost.flow.lanes import Lane
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver

_TIMEOUT = 0.03
"""Seconds for an attempt to a server that says nothing; others need less."""
_WARM_UP = 20
_AT_ONCE = 10

_LOOPS_OWN = frozenset({"TimerHandle", "Context", "hamt", "hamt_bitmap_node"})
"""Of cancelled timers, with their contexts, the event loop keeps a hundred before it looks through them."""

Serve = Callable[[socket], None]
"""What becomes of a connection, which is closed afterwards."""


# servers that fail


def _reset(connection: socket) -> None:
    connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


def _hear(connection: socket) -> None:
    """Read what comes at once; with some protocols the server has the first word."""
    connection.settimeout(0.02)
    with contextlib.suppress(TimeoutError):
        connection.recv(1 << 20)


def _hang_up(connection: socket) -> None:
    _hear(connection)


def _silence(connection: socket) -> None:
    while connection.recv(1 << 16):
        pass


def _says(data: bytes) -> Serve:
    def serve(connection: socket) -> None:
        _hear(connection)
        connection.sendall(data)

    return serve


def _http(status: int, body: bytes = b"{}", headers: str = "") -> Serve:
    head = f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
    answer = head.encode() + body

    def serve(connection: socket) -> None:
        received = connection.recv(1 << 16)
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        left = int(length[1]) - len(rest) if length else 0
        while left > 0:
            left -= len(connection.recv(1 << 16)) or left
        connection.sendall(answer)

    return serve


ANYWHERE: dict[str, Serve | None] = {
    "closed port": None,
    "reset": _reset,
    "hang-up": _hang_up,
    "timeout": _silence,
    "garbage": _says(b"\xff" * 4096),
    "zeros": _says(b"\x00" * 4096),
    "text": _says(b"-ERR no such thing\r\n"),
}
OVER_HTTP: dict[str, Serve | None] = {
    "hang-up in the answer": _says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
    "400": _http(400, b'{"error":"no"}'),
    "404": _http(404),
    "429": _http(429, headers="retry-after: 5\r\n"),
    "503": _http(503),
    "oversized answer": _http(500, b"x" * 200_000),
    "oversized head": _http(500, headers="x: " + "y" * 60_000 + "\r\n"),
    "not HTTP": _says(b"HTTP/1.1\t200\r\nHTTP/x\r\n\r\n"),
}
NOWHERE = ("no such name", "blocked address")
"""Kinds that need no server."""
_KEYS = {"key": "AKIDEXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
_ACCESS = "Endpoint=sb://{at}/;SharedAccessKeyName=s;SharedAccessKey=a-key-of-the-benchmark="


class Subject(Struct, frozen=True):
    """A destination type as it is sent to `at`, a host and port. `http`: it fails over HTTP, too."""

    config: Mapping[str, str]
    credentials: Mapping[str, str]
    http: bool = False


_SQS = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
SUBJECTS: dict[str, Subject] = {
    "webhook": Subject({"url": "http://{at}/"}, {"secret": make_secret(bytes(32))}, http=True),
    "webhook over TLS": Subject({"url": "https://{at}/"}, {"secret": make_secret(bytes(32))}),
    "aws_sqs": Subject({"queue_url": _SQS, "endpoint": "http://{at}"}, _KEYS, http=True),
    "gcp_pubsub": Subject(
        {"project_id": "bench-project", "topic": "bench", "endpoint": "http://{at}"},
        {"service_account_json": "{{}}"},
        http=True,
    ),
    "azure_servicebus": Subject({"name": "bench"}, {"connection_string": _ACCESS}),
    "kafka": Subject({"brokers": "{at}", "topic": "bench", "tls": "false", "sasl_mechanism": "none"}, {}),
    "rabbitmq": Subject(
        {"server_url": "{at}", "exchange": "bench", "tls": "false"}, {"username": "u", "password": "p"}
    ),
    "nats": Subject({"servers": "{at}", "subject_template": "'bench'"}, {"username": "u", "password": "p"}),
    "redis": Subject({"server": "{at}", "stream": "bench"}, {"password": "p"}),
    "mqtt": Subject({"server": "{at}", "topic_template": "'bench'"}, {"username": "u", "password": "p"}),
}


def kinds_of(name: str) -> list[str]:
    return [*ANYWHERE, *(OVER_HTTP if SUBJECTS[name].http else ()), *NOWHERE]


# one case


class Left(Struct, frozen=True):
    """What is alive: objects by type, references to the body, bytes in memory, descriptors."""

    objects: Counter[str]
    references: int
    resident: int
    descriptors: int


class Growth(Struct, frozen=True, kw_only=True):
    """What `failures` more of them have added, and the codes that they ended with."""

    failures: int
    objects: dict[str, int]
    references: int
    resident: int
    descriptors: int
    codes: dict[str, int]

    @property
    def flat(self) -> bool:
        """Whether less was added than an object of any type in four failures, no body, and no descriptor."""
        slack = max(25, self.failures // 4)
        return (
            all(count < slack for count in self.objects.values()) and self.references <= 0 and self.descriptors < slack
        )


class _Names:
    """Knows no name."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        raise DeliveryError("dns_error", f"There is no address for {host}")


@contextlib.contextmanager
def _server(serve: Serve | None) -> Iterator[str]:
    """A thread for each connection: it leaves nothing behind that the collector would have to find."""
    listener = create_server(("127.0.0.1", 0), backlog=256)
    at = f"127.0.0.1:{listener.getsockname()[1]}"
    if serve is None:
        listener.close()
        yield at
        return
    accepting = Thread(target=_accept, args=(listener, serve), daemon=True)
    accepting.start()
    try:
        yield at
    finally:
        listener.shutdown(SHUT_RDWR)
        accepting.join()
        listener.close()


def _accept(listener: socket, serve: Serve) -> None:
    with contextlib.suppress(OSError):
        while True:
            Thread(target=_carry, args=(listener.accept()[0], serve), daemon=True).start()


def _carry(connection: socket, serve: Serve) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        serve(connection)


def _place(kind: str) -> tuple[Serve | None, str | None]:
    """The server of a kind, or the place to send to where it has none."""
    if kind == "no such name":
        return None, "nobody.test:9999"
    if kind == "blocked address":
        return None, "10.0.0.1:9999"
    return (ANYWHERE | OVER_HTTP)[kind], None


def _destination(name: str, at: str) -> Destination:
    subject, now = SUBJECTS[name], time.time_ns() // 1000 // SECOND * SECOND
    return Destination(
        no=1,
        id="des_soak",
        tenant_id="soak",
        type=name.partition(" ")[0],
        topics=("*",),
        config={key: value.format(at=at) for key, value in subject.config.items()},
        credentials={key: value.format(at=at) for key, value in subject.credentials.items()},
        created_at=now,
        updated_at=now,
    )


async def run(name: str, kind: str, *, failures: int, payload: int) -> Growth:
    """Make the failures twice, and say what the second half has added."""
    guard = AddressGuard([ip_network("127.0.0.0/8")])
    resolver = GuardedResolver(_Names(), guard)
    settings = HttpSettings(total_timeout=_TIMEOUT if kind == "timeout" else 5.0)
    http = HttpClient(settings, resolver, guard)
    tools = Tools(http=http, guard=guard, resolver=resolver, options={})
    attempts = Attempts(
        registry=Registry.discover(),
        tools=tools,
        policy=RetryPolicy(limit=1, base_seconds=1.0, factor=2.0, max_wait_seconds=10.0),
        sequence=clock.Sequence(),
        timeout=_TIMEOUT if kind == "timeout" else 5.0,
    )
    serve, at = _place(kind)
    await http.start()
    try:
        with _server(serve) as found:
            return await _measure(attempts, _destination(name, at or found), failures, payload)
    finally:
        await http.close()


async def _measure(attempts: Attempts, destination: Destination, failures: int, payload: int) -> Growth:
    lane = Lane(destination, first=_AT_ONCE, widest=_AT_ONCE, longest=_AT_ONCE)
    body = b'{"x":"' + b"x" * payload + b'"}'
    codes: Counter[str] = Counter()
    await _fail(attempts, lane, body, _WARM_UP + failures // 10, codes)
    _left(body)  # which has caches of its own to fill
    gc.collect()
    gc.disable()
    try:
        await _fail(attempts, lane, body, failures, codes)
        before = _left(body)
        await _fail(attempts, lane, body, failures, codes)
        after = _left(body)
    finally:
        gc.enable()
    if lane.warm is not None:
        await lane.warm.retire()
    added = {kind: count - before.objects[kind] for kind, count in after.objects.items() if kind not in _LOOPS_OWN}
    return Growth(
        failures=failures,
        objects={kind: count for kind, count in added.items() if count > 0},
        references=after.references - before.references,
        resident=after.resident - before.resident,
        descriptors=after.descriptors - before.descriptors,
        codes=dict(codes),
    )


async def _fail(attempts: Attempts, lane: Lane, body: bytes, number: int, codes: Counter[str]) -> None:
    for _ in range(0, number, _AT_ONCE):
        for code in await asyncio.gather(*(_attempt(attempts, lane, body) for _ in range(_AT_ONCE))):
            codes[code] += 1
    await asyncio.sleep(_TIMEOUT)  # what the last ones have left to be called


async def _attempt(attempts: Attempts, lane: Lane, body: bytes) -> str:
    now = clock.now()
    event = Event(seq=now, id="soak", tenant_id="soak", topic="soak", time=now, data=body, metadata={"a": "b"})
    delivery = Delivery(event=event, destination_no=1, attempt=1, retries=0, manual=False, lease_until=now)
    try:
        return (await attempts.make(lane, delivery)).outcome.code
    except Unavailable:
        return "put off"


def _left(body: bytes) -> Left:
    references = sys.getrefcount(body)
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return Left(
        objects=Counter(type(each).__qualname__ for each in gc.get_objects()),
        references=references,
        resident=resident,
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
    )


# the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("types", nargs="*", metavar="TYPE", help=f"default: all of {', '.join(SUBJECTS)}")
    parser.add_argument("--failures", type=int, default=10_000, help="failures of each kind, made twice")
    parser.add_argument("--kind", action="append", help="only this kind; can be repeated")
    parser.add_argument("--payload", type=int, default=20_000, help="bytes of each event's data")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    rising = 0
    print(f"{'type':18} {'failure':22} {'objects':>8} {'bodies':>7} {'KiB':>8} {'fds':>5}  codes")
    for name in options.types or SUBJECTS:
        for kind in kinds_of(name):
            if options.kind and kind not in options.kind:
                continue
            found = asyncio.run(run(name, kind, failures=options.failures, payload=options.payload))
            rising += not found.flat
            print(_line(name, kind, found), flush=True)
    sys.exit(1 if rising else 0)


def _line(name: str, kind: str, found: Growth) -> str:
    figures = f"{sum(found.objects.values()):8} {found.references:7} {found.resident // 1024:8} {found.descriptors:5}"
    most = sorted(found.objects.items(), key=lambda item: -item[1])[:4]
    return f"{name:18} {kind:22} {figures}  {found.codes}" + ("" if found.flat else f"  GROWS: {most}")


if __name__ == "__main__":
    main()
