"""Events and attempts as they happen, as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.attempts import OUTCOMES, TYPE, conditions_of
from waypost.api.auth import BackendOf, Caller
from waypost.api.backend import Backend
from waypost.api.events import CONTENTS, search_of
from waypost.api.query import Query, QueryOf
from waypost.api.view import tenants_in_view, view_of
from waypost.core.errors import BadRequest, Unauthorized, Unavailable
from waypost.flow.live import Gap, Listener, Message
from waypost.flow.wanted import Wanted
from waypost.store.base import StoredAttempt
from waypost.store.replays import Ask
from waypost.store.tail import Told

_log = structlog.get_logger("waypost")

KINDS = ("event", "attempt")

_LOOK_SECONDS = 1.0
"""How often it is asked whether the caller may still listen."""
_STALLED_SECONDS = 30.0
"""How long a client may take nothing at all."""
_FAREWELL_SECONDS = 1.0
_LARGEST_ID = (1 << 63) - 1
_GREETING = b"retry: 2000\n\n"
_HEARTBEAT = b": nothing new\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # proxies of nginx's kind pass it on at once
]

_encode = msgspec.json.Encoder(decimal_format="number").encode

router = APIRouter(tags=["Live"])


@router.get(
    "/stream",
    operation_id="stream",
    summary="Follow events and attempts",
    responses={
        200: {
            "description": "Messages of the types `event`, `attempt` and `gap`, for as long as the caller stays.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **doc.errors(400, 422, 429),
    },
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("kind", "Only events, or only attempts.", KINDS),
        doc.array("tenant_id", "Only what concerns these tenants. Ignored with a token."),
        doc.array("destination_id", "Only events routed to one of these destinations, and attempts to reach them."),
        doc.array("topic", "Only events of these topics, and attempts to deliver them."),
        doc.array("event_id", "Only these events, and attempts to deliver them."),
        *CONTENTS,
        TYPE,
        *OUTCOMES,
        doc.INCLUDE,
        doc.text("last_id", "Go on after the message of this `id`. A header `Last-Event-ID` comes before it."),
    ),
)
async def stream(caller: Caller, query: QueryOf, request: Request, backend: BackendOf) -> Response:
    """Server-sent events. The `data` of a message is an item of the list of events, or of that of attempts.

    The parameters narrow as they do in these lists. What only attempts have (a destination's type, status, code, ...)
    leaves no events; `metadata`, `data` and `q` look at the event of an attempt.

    Events show their payload only with `include=event.data`. A client that comes back with the last `id` it has seen
    is told what it missed, in the order in which that happened; one that does not keep up gets a `gap` that says how
    many messages were `missed`. A tenant's token sees its own.
    """
    include = query.choices("include", render.INCLUDES)
    listener = Listener(
        backend.live,
        backend.store,
        _wanted(query, tenants_in_view(caller, query, backend)),
        owner=view_of(caller),
        after=_last_id(request.headers.get("last-event-id") or query.one("last_id")),
    )
    return _EventStream(listener, backend, include, request.headers["authorization"])


def _wanted(query: Query, tenant_ids: tuple[str, ...]) -> Wanted:
    kinds = query.choices("kind", KINDS) or KINDS
    return Wanted(
        events="event" in kinds,
        attempts="attempt" in kinds,
        tenant_ids=tenant_ids,
        destination_ids=query.many("destination_id"),
        search=search_of(query),
        of_attempts=conditions_of(query),
    )


def _last_id(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID):
        raise BadRequest("last_id must be the id of a message of this stream")
    return int(text)


class _EventStream(Response):
    """Ends when the client goes, takes nothing for long, or may listen no more, and when the server stops."""

    def __init__(self, listener: Listener, backend: Backend, include: tuple[str, ...], authorization: str) -> None:
        super().__init__()
        self._listener = listener
        self._backend = backend
        self._include = include
        self._authorization = authorization.encode("latin-1")
        self._checked_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._listener:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            pumping = asyncio.create_task(self._pump(send))
            leaving = [asyncio.create_task(_disconnected(receive)), asyncio.create_task(self._listener.ended.wait())]
            try:
                await asyncio.wait([pumping, *leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (pumping, *leaving):
                    task.cancel()
                await asyncio.gather(pumping, *leaving, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        try:
            await _write(send, _GREETING)
            written = time.monotonic()
            async for batch in self._listener.batches(_LOOK_SECONDS):
                await self._check_the_caller()
                if batch:
                    await _write(send, await self._rendered(batch))
                elif time.monotonic() - written >= self._backend.settings.stream_heartbeat:
                    await _write(send, _HEARTBEAT)
                else:
                    continue
                written = time.monotonic()
        except (Unauthorized, Unavailable, TimeoutError):
            pass
        except Exception:  # noqa: BLE001  the answer has begun: all that can be done is to end it
            _log.exception("stream_crashed")

    async def _check_the_caller(self) -> None:
        """Raise Unauthorized, within a second, when the token has expired or the key or the tenant is gone."""
        now, owner = time.monotonic(), self._listener.owner
        if now - self._checked_at >= _LOOK_SECONDS:
            self._checked_at = now
            await self._backend.access.still(self._authorization, owner)

    async def _rendered(self, batch: Sequence[Message]) -> bytes:
        items = [message.item for message in batch if isinstance(message, Told)]
        asks = await self._backend.store.replays.asks([i.attempt for i in items if isinstance(i, StoredAttempt)])
        return b"".join([self._message(message, asks) for message in batch])

    def _message(self, message: Message, asks: Mapping[int, Ask]) -> bytes:
        if isinstance(message, Gap):
            return b"event: gap\ndata: %s\n\n" % _encode({"missed": message.missed})
        item = message.item
        if isinstance(item, StoredAttempt):
            ask = asks.get(item.attempt.seq)
            kind, shown = b"attempt", render.attempt(item, self._include, self._backend.registry, ask)
        else:
            kind, shown = b"event", render.event(item)
            if "event.data" not in self._include:
                del shown["data"]
        lines = b"\n".join([b"data: " + line for line in _encode(shown).splitlines()])
        return b"event: %s\nid: %d\n%s\n\n" % (kind, abs(message.number), lines)


async def _write(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(_STALLED_SECONDS):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
