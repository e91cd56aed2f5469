"""The ceiling: Waypost's own publish endpoint and webhook sender in one process, with no store between.

What it does in a second is the most that Waypost could do if durability, routing, settling and the record were free.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from bench.servers import API_KEY, Subscriber
from waypost import settings as settings_module
from waypost.api.publish import Limits, PublishEndpoint
from waypost.connect.connector import Connection, Message
from waypost.connect.registry import Registry
from waypost.core.errors import DeliveryError, Unauthorized
from waypost.core.message import merged_metadata
from waypost.core.model import Destination, Event
from waypost.flow import clock
from waypost.front.server import http_server
from waypost.machine import settle_down
from waypost.parts import tools_of
from waypost.settings import Settings
from waypost.store.base import Accepted

_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_AUTHORIZATION = f"Bearer {API_KEY}".encode()


class Sender:
    """Posts events to one destination, as many at a time as Waypost would."""

    def __init__(self, destination: Destination, connection: Connection, width: int) -> None:
        self.destination = destination
        self._connection = connection
        self._free = width
        self._waiting: deque[Event] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, event: Event) -> None:
        self._waiting.append(event)
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._waiting:
            await self._send(self._waiting.popleft())
        self._free += 1

    async def _send(self, event: Event) -> None:
        sent_at = clock.now()
        metadata = merged_metadata(event, self.destination.delivery_metadata, sent_at=sent_at)
        message = Message(event=event, metadata=metadata, attempt=1, manual=False, sent_at=sent_at)
        try:
            await self._connection.send(message)
        except DeliveryError as error:
            print(f"{event.id}: {error}", file=sys.stderr, flush=True)


class Straight:
    """Stands where Waypost's publisher stands: hands an event to the senders and says that it was accepted."""

    def __init__(self, senders: Mapping[tuple[str, str], Sequence[Sender]]) -> None:
        self._senders = senders

    async def publish(self, event: Event) -> Accepted:
        senders = self._senders.get((event.tenant_id, event.topic), ())
        for sender in senders:
            sender.take(event)
        return Accepted(duplicate=False, destination_ids=tuple(sender.destination.id for sender in senders))

    async def publish_many(self, events: Sequence[Event]) -> list[Accepted]:
        return [await self.publish(event) for event in events]


async def _serve(port: int, subscribers: Sequence[Subscriber]) -> None:
    settings = settings_module.load(webhook_allowed_networks=("127.0.0.0/8",))
    tools = tools_of(settings)
    await tools.http.start()
    kind = Registry.discover()["webhook"]
    senders: dict[tuple[str, str], list[Sender]] = defaultdict(list)
    for number, subscriber in enumerate(subscribers):
        destination = _destination(number, subscriber)
        sender = Sender(
            destination, await kind.connect(destination, tools), settings.delivery_concurrency_per_destination
        )
        senders[subscriber.target.tenant, subscriber.target.topic].append(sender)
    server = uvicorn.Server(http_server(_endpoint(Straight(senders), settings)))
    settle_down()
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
        await server.serve(sockets=[listening])
    await tools.http.close()


def _endpoint(publisher: Straight, settings: Settings) -> PublishEndpoint:
    return PublishEndpoint(
        publisher,
        authorise=_authorise,
        next_seq=clock.Sequence().next,
        catalogue=frozenset,
        limits=Limits(
            event_bytes=settings.publish_max_bytes,
            batch_events=settings.publish_batch_max_events,
            batch_bytes=settings.publish_batch_max_bytes,
        ),
        refused=lambda: None,
    )


def _authorise(authorization: bytes | None) -> None:
    if authorization != _AUTHORIZATION:
        raise Unauthorized("unauthorized")


def _destination(number: int, subscriber: Subscriber) -> Destination:
    return Destination(
        no=number,
        id=f"des_{number}",
        tenant_id=subscriber.target.tenant,
        type="webhook",
        topics=(subscriber.target.topic,),
        config={"url": subscriber.url},
        credentials={"secret": _SECRET},
        created_at=0,
        updated_at=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--subscribers", type=Path, required=True, help="JSON: who gets what")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, msgspec.json.decode(options.subscribers.read_bytes(), type=list[Subscriber])))


if __name__ == "__main__":
    main()
