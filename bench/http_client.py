"""What a POST costs: CPU per request and requests a second of HttpClient against a bare local sink.

    python bench/http_client.py [--requests 40000] [--concurrency 64] [--rounds 3]

The sink is a process of its own, so that the CPU shown is the client's alone (user + system, event loop included).
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import statistics
import subprocess
import sys
import time
from ipaddress import ip_network
from typing import cast

import uvloop

from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpRequest, HttpSettings

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: sink\r\ncontent-length: 2\r\n\r\n{}"
BODY = b'{"order":1234567,"note":"' + b"x" * 300 + b'"}'
HEADERS = (
    "content-type: application/json",
    "webhook-id: evt_1234567890",
    "webhook-timestamp: 1700000000",
    "webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
)


class Sink(asyncio.Protocol):
    """Answers each request as soon as its bytes are in. Bodies are all of one length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        answers = 0
        while (end := self.received.find(b"\r\n\r\n")) >= 0 and len(self.received) >= end + 4 + len(BODY):
            self.received = self.received[end + 4 + len(BODY) :]
            answers += 1
        if answers:
            self.transport.write(ANSWER * answers)


class Fixed:
    """A resolver that knows one address."""

    def __init__(self) -> None:
        self.known = ("127.0.0.1",)

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        return self.known


async def serve(descriptor: int) -> None:
    listener = socket.socket(fileno=descriptor)
    server = await asyncio.get_running_loop().create_server(Sink, sock=listener)
    await server.serve_forever()


async def post(client: HttpClient, url: str, requests: int, concurrency: int) -> list[float]:
    """Latencies in seconds."""
    latencies: list[float] = []
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            started = time.perf_counter()
            response = await client.send(HttpRequest(method="POST", url=url, headers=list(HEADERS), body=BODY))
            latencies.append(time.perf_counter() - started)
            assert response.status == 200

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return latencies


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(port: int, requests: int, concurrency: int, rounds: int) -> None:
    client = HttpClient(HttpSettings(), Fixed(), AddressGuard([ip_network("127.0.0.0/8")]))
    await client.start()
    url = f"http://sink.example:{port}/hook"
    await post(client, url, concurrency * 4, concurrency)
    costs: list[float] = []
    for _ in range(rounds):
        started, used = time.perf_counter(), cpu()
        latencies = sorted(await post(client, url, requests, concurrency))
        wall, used = time.perf_counter() - started, cpu() - used
        costs.append(used / requests * 1e6)
        print(
            f"{requests / wall:8,.0f} posts/s  {costs[-1]:5.1f} us CPU a post  "
            f"p50 {latencies[requests // 2] * 1e3:.2f} ms  p99 {latencies[requests * 99 // 100] * 1e3:.2f} ms"
        )
    print(f"median {statistics.median(costs):.1f} us, best {min(costs):.1f} us CPU a post")
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        uvloop.run(serve(options.serve))
        return
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        command = [sys.executable, __file__, "--serve", str(listener.fileno())]
        sink = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            uvloop.run(
                measure(listener.getsockname()[1], options.requests, options.concurrency, options.rounds),
            )
        finally:
            sink.terminate()
            sink.wait()


if __name__ == "__main__":
    main()
