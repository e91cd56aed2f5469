"""`waypost listen`: a receiver on a developer's machine that shows and verifies what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import signal
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from waypost.cli.arrival import Arrival, read
from waypost.cli.client import Client, connect
from waypost.cli.receiver import Answer, Receiver, Request
from waypost.core import times
from waypost.core.errors import BadRequest, Invalid, NotFound, WaypostError
from waypost.core.escape import escaped_line

Echo = Callable[[str], None]
_MICROSECONDS = 1000

say: Echo = functools.partial(print, flush=True)
"""Prints at once, also into a pipe."""

_LET_THROUGH = (
    "The server must let this machine through: start it with `waypost serve --dev`,"
    " or name a network in WAYPOST_WEBHOOK_ALLOWED_NETWORKS"
)


class AddressTaken(WaypostError):
    """The receiver's address cannot be listened on."""


class Behaviour(Struct, frozen=True, kw_only=True):
    """How the receiver answers: a status, after a delay in seconds; a share of the answers is 500 instead."""

    status: int = HTTPStatus.OK
    delay: float = 0.0
    fail_rate: float = 0.0

    def answer(self, dice: float) -> Answer:
        """The answer for a number drawn from [0, 1)."""
        failed = dice < self.fail_rate
        status = HTTPStatus.INTERNAL_SERVER_ERROR if failed else self.status
        return Answer(status=status, body=b"failed on purpose" if failed else b"", delay=self.delay)


class Listener:
    """Receives webhooks, counts the attempts of each event and hands on what it made of each of them.

    `secret` may be set after the listener has started: it is often known only once the destination has been created.
    """

    def __init__(self, show: Callable[[Arrival], None], behaviour: Behaviour, *, secret: str | None = None) -> None:
        self.secret = secret
        self.stopped = asyncio.Event()
        self._show = show
        self._behaviour = behaviour
        self._attempts: Counter[str] = Counter()
        self._answered = 0
        self._enough: int | None = None
        self.receiver = Receiver(self._decide, self._done)

    async def until(self, count: int | None) -> None:
        """Wait until `count` webhooks have been answered (None: without end) or `stopped` is set."""
        self._enough = count
        self._stop_when_enough()
        await self.stopped.wait()

    def _decide(self, request: Request) -> Answer:
        if request.method != "POST":
            return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"webhooks are POST requests")
        arrival = read(request, self.secret, at=time.time_ns() // _MICROSECONDS)
        self._attempts[arrival.event_id] += 1
        self._show(msgspec.structs.replace(arrival, attempt=self._attempts[arrival.event_id]))
        return self._behaviour.answer(random.random())  # noqa: S311  failures on purpose need no secrecy

    def _done(self, request: Request) -> None:
        if request.method == "POST":
            self._answered += 1
            self._stop_when_enough()

    def _stop_when_enough(self) -> None:
        if self._enough is not None and self._answered >= self._enough:
            self.stopped.set()


def listen(
    *,
    host: str = "127.0.0.1",
    port: int = 4000,
    secret: str | None = None,
    respond: int = HTTPStatus.OK,
    delay: float = 0.0,
    fail_rate: float = 0.0,
    tenant: str | None = None,
    topics: Iterable[str] = ("*",),
    url: str | None = None,
    server: str | None = None,
    api_key: str | None = None,
    count: int | None = None,
    as_json: bool = False,
    echo: Echo = say,
) -> None:
    """Show what arrives until Ctrl-C, or until `count` webhooks have been answered.

    With a `tenant`, the receiver is a webhook destination of that tenant for as long as it runs, under `url` (where the
    server reaches it; by default its own address), and verifies with the destination's secret. Without one it only
    listens, and verifies if a `secret` is given.

    Raises AddressTaken, BadRequest for wrong options, and what talking to the server raises.
    """
    behaviour = _behaviour(respond, delay, fail_rate)
    show = as_json_line if as_json else as_text
    listener = Listener(lambda arrival: echo(show(arrival)), behaviour, secret=secret)
    client = connect(server, api_key) if tenant is not None else None
    tell = _say_nothing if as_json else echo

    async def run() -> None:
        async with listener.receiver:
            own = await _start(listener, host, port)
            with contextlib.ExitStack() as stack:
                if client is not None and tenant is not None:
                    destination = stack.enter_context(registered(client, tenant, url or own, topics, tell))
                    listener.secret = destination["credentials"]["secret"]
                    tell(f"{url or own} is now destination {destination['id']} of tenant {tenant}")
                tell(f"listening on {own}, Ctrl-C ends it")
                await listener.until(count)

    asyncio.run(run())


@contextlib.contextmanager
def registered(client: Client, tenant: str, url: str, topics: Iterable[str], tell: Echo) -> Iterator[dict[str, Any]]:
    """A webhook destination that exists for the time being; its tenant is created when it is missing, and stays."""
    client.ensure_tenant(tenant)
    try:
        destination = client.add_webhook(tenant, url, topics)
    except Invalid as error:
        raise Invalid(message=f"{error}\n{_LET_THROUGH}" if "is not allowed" in str(error) else str(error)) from None
    try:
        yield destination
    finally:
        try:
            client.delete_destination(tenant, destination["id"])
        except NotFound:
            pass
        except WaypostError as error:
            tell(f"destination {destination['id']} of tenant {tenant} could not be removed: {error}")


def as_text(arrival: Arrival) -> str:
    """A line about the delivery and its body, indented; nothing in it can steer a terminal."""
    moment = datetime.fromtimestamp(arrival.at / 1_000_000).astimezone().strftime("%H:%M:%S")
    verdict = {True: "verified", False: f"NOT VERIFIED: {arrival.problem}", None: "not verified: no secret known"}
    facts = (moment, arrival.topic or "(no topic)", arrival.event_id or "(no id)", f"attempt {arrival.attempt}")
    line = "  ".join([*facts, verdict[arrival.verified], f"{len(arrival.body)} bytes"])
    return _harmless(f"{line}\n{textwrap.indent(_pretty(arrival.body), '    ')}")


def as_json_line(arrival: Arrival) -> str:
    """The delivery as one line of JSON. A body that is not JSON is given as text."""
    fields = msgspec.structs.asdict(arrival) | {"time": times.render(arrival.at), "body": _json_or_text(arrival.body)}
    del fields["at"]
    return escaped_line(msgspec.json.encode(fields).decode())


async def _start(listener: Listener, host: str, port: int) -> str:
    """Listen, let Ctrl-C and SIGTERM end it in an orderly way, and return the receiver's URL."""
    try:
        taken = await listener.receiver.start(host, port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressTaken(f"cannot listen on {host} port {port}: {reason}; choose another --port") from error
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, listener.stopped.set)
    return f"http://{f'[{host}]' if ':' in host else host}:{taken}/"


def _behaviour(respond: int, delay: float, fail_rate: float) -> Behaviour:
    if not 200 <= respond <= 599:  # noqa: PLR2004  the final statuses of HTTP
        raise BadRequest(f"respond must be a status from 200 to 599, not {respond}")
    if delay < 0:
        raise BadRequest("delay must be at least 0 seconds")
    if not 0 <= fail_rate <= 1:
        raise BadRequest("fail-rate must be from 0 to 1")
    return Behaviour(status=respond, delay=delay, fail_rate=fail_rate)


def _pretty(body: bytes) -> str:
    """JSON indented, its numbers and key order untouched; anything else as it is."""
    try:
        return msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")


def _json_or_text(body: bytes) -> Any:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")
    return msgspec.Raw(msgspec.json.format(body, indent=-1))


def _harmless(text: str) -> str:
    """The text without control characters, which could write over what stands on the terminal."""
    return "".join(letter if letter == "\n" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _say_nothing(_text: str) -> None:
    """For output that another program reads."""
