"""The management API as one ASGI app. Publishing is not here: it is mounted before this app, without a framework."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from waypost.api import (
    alert_channels,
    alert_rules,
    alerts,
    attempts,
    deliveries,
    destination_types,
    destinations,
    events,
    filters,
    health,
    keys,
    metrics,
    paths,
    probe,
    recovery,
    reference,
    replays,
    retention,
    retry,
    skips,
    stream,
    tenants,
    topics,
)
from waypost.api.answers import answer
from waypost.api.backend import Backend
from waypost.api.errors import HANDLERS

PREFIX = "/api/v1"

_NOUNS = (
    tenants,
    destinations,
    probe,
    recovery,
    skips,
    alerts,
    alert_rules,
    alert_channels,
    events,
    deliveries,
    attempts,
    retry,
    replays,
    retention,
    stream,
    metrics,
    topics,
    filters,
    destination_types,
    keys,
    health,
)


class _Api(FastAPI):
    """Finds routes by the path as it was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = paths.raw_path(scope)
            if not paths.is_proper(raw):
                await answer({"status": 404, "message": "not found"}, 404)(scope, receive, send)
                return
            scope["path"] = raw.decode("ascii")
        await super().__call__(scope, receive, send)


def create_app(backend: Backend) -> FastAPI:
    """The API over a backend. It holds nothing of its own; what it stands on is opened and closed elsewhere."""
    app = _Api(
        title="Waypost",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers=dict(HANDLERS),
    )
    app.state.backend = backend
    app.state.prefix = PREFIX
    app.state.description = None
    app.state.routers = (*((PREFIX, noun.router) for noun in _NOUNS), ("", health.root), ("", reference.router))
    for prefix, router in app.state.routers:
        app.include_router(router, prefix=prefix)
    return app
