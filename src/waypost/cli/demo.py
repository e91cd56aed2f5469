"""`waypost demo`: one event's whole way, on a server and a receiver that live only for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from waypost.cli.arrival import Arrival
from waypost.cli.client import API, Client, Published, ServerUnreachable
from waypost.cli.listen import Behaviour, Echo, Listener, as_text, say
from waypost.core.errors import WaypostError

TENANT = "acme"
TOPIC = "order.created"
DATA = b'{"order": 1029, "total": "49.95", "currency": "EUR"}'
_POLL = 0.05
_STOP = 10.0
_LOG_SHOWN = 2000
_LOCALHOST = "127.0.0.1"


class DemoFailed(WaypostError):
    """A step of the demonstration did not happen."""


def demo(*, timeout: float = 30.0, echo: Echo = say) -> None:
    """Start a server in a temporary directory, deliver one signed event to a receiver, say what happened, clean up.

    `timeout` bounds each step, in seconds. Raises DemoFailed with the step that did not happen.
    """
    with tempfile.TemporaryDirectory(prefix="waypost-demo-") as directory, _server(Path(directory), timeout) as client:
        echo(f"1. a server runs at {client.server}, its database in a temporary directory")
        asyncio.run(_tour(client, timeout, echo))


async def _tour(client: Client, patience: float, echo: Echo) -> None:
    arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
    listener = Listener(arrivals.put_nowait, Behaviour())
    async with listener.receiver:
        url = f"http://{_LOCALHOST}:{await listener.receiver.start(_LOCALHOST, 0)}/"
        destination = await asyncio.to_thread(_create_destination, client, url)
        listener.secret = destination["credentials"]["secret"]
        echo(f"2. tenant {TENANT} has the webhook destination {destination['id']}: {url}")
        published = await asyncio.to_thread(client.publish, tenant=TENANT, topic=TOPIC, data=DATA)
        if not published.destination_ids:
            raise DemoFailed(f"event {published.id} was accepted, but routed to no destination")
        echo(f"3. event {published.id} was accepted: it is on disk, and on its way to {destination['id']}")
        echo(f"4. the receiver got it:\n\n{as_text(await _verified(arrivals, patience))}\n")
        attempt = await asyncio.to_thread(_recorded_attempt, client, published, patience)
        echo(f"5. the attempt is on record:\n\n{_pretty(attempt)}\n")
    echo(_commands())


def _create_destination(client: Client, url: str) -> dict[str, Any]:
    client.ensure_tenant(TENANT)
    return client.add_webhook(TENANT, url)


async def _verified(arrivals: asyncio.Queue[Arrival], patience: float) -> Arrival:
    try:
        arrival = await asyncio.wait_for(arrivals.get(), patience)
    except TimeoutError:
        raise DemoFailed(f"the event did not arrive at the receiver within {patience:g} s") from None
    if not arrival.verified:
        raise DemoFailed(f"the event arrived, but its signature does not hold: {arrival.problem}")
    return arrival


def _recorded_attempt(client: Client, published: Published, timeout: float) -> dict[str, Any]:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        attempts = client.attempts(event_id=published.id)
        if attempts:
            return attempts[0]
        time.sleep(_POLL)
    raise DemoFailed(f"no attempt for event {published.id} is on record after {timeout:g} s")


@contextlib.contextmanager
def _server(directory: Path, timeout: float) -> Iterator[Client]:
    """`waypost serve` in a process of its own, with nothing but settings for the demonstration."""
    port, key = _free_port(), secrets.token_urlsafe(24)
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "waypost", "serve"],
            cwd=directory,
            env=_environment(directory, port, key),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        client = Client(f"http://{_LOCALHOST}:{port}", key, timeout=timeout)
        _wait_for(client, process, log, timeout)
        yield client
    finally:
        _end(process)


def _environment(directory: Path, port: int, key: str) -> dict[str, str]:
    """The surroundings without the user's own settings of Waypost."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
    return others | {
        "WAYPOST_HOST": _LOCALHOST,
        "WAYPOST_PORT": str(port),
        "WAYPOST_API_KEY": key,
        "WAYPOST_DATABASE_URL": f"sqlite:///{directory / 'waypost.db'}",
        "WAYPOST_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }


def _wait_for(client: Client, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DemoFailed(
                f"the server ended at once (code {process.returncode}):\n{log.read_text(errors='replace')}"
            )
        try:
            client.request("GET", "/tenants")
        except ServerUnreachable:
            time.sleep(_POLL)
        else:
            return
    raise DemoFailed(f"the server did not answer within {timeout:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_SHOWN:]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _pretty(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _commands() -> str:
    """The same steps by hand, against a server of one's own."""
    own = f"http://{_LOCALHOST}:3333{API}"
    webhook = {"type": "webhook", "topics": "*", "config": {"url": f"http://{_LOCALHOST}:4000/"}}
    event = {"tenant_id": TENANT, "topic": TOPIC, "data": msgspec.Raw(DATA)}
    return "\n".join(
        [
            "The same by hand, with `waypost serve --dev` and `waypost listen` running and the admin key in $KEY:",
            "",
            _curl("PUT", f"{own}/tenants/{TENANT}"),
            _curl("POST", f"{own}/tenants/{TENANT}/destinations", webhook),
            _curl("POST", f"{own}/publish", event),
            _curl("GET", f"{own}/attempts?tenant_id={TENANT}"),
        ]
    )


def _curl(method: str, url: str, body: dict[str, Any] | None = None) -> str:
    command = f'curl -X {method} {shlex.quote(url)} -H "Authorization: Bearer $KEY"'
    if body is None:
        return command
    return f"{command} \\\n  -H 'Content-Type: application/json' -d {shlex.quote(msgspec.json.encode(body).decode())}"
