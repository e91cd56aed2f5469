"""The HTTP server: uvicorn's accepting and ending, with connections of our own."""

from __future__ import annotations

import contextlib
import functools
import resource
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
import uvicorn

from waypost.front.connection import Connection
from waypost.front.gate import Gate
from waypost.front.limits import Limits

_LEAST_CONNECTIONS = 16
_DEFAULTS = Limits()


class Server(uvicorn.Server):
    """Uvicorn without its signal handling: a second handler of ours would have to undo it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: Any, trusted_proxies: Sequence[str] = (), limits: Limits = _DEFAULTS) -> uvicorn.Config:
    """How HTTP is served: nothing on the way to the application that Waypost does not need.

    What these proxies say of the client's address is believed. Half of the descriptors that the process may open are
    left for what it opens itself.
    """
    gate = Gate(_within_descriptors(limits), trusted_proxies)
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=cast(Any, functools.partial(Connection, gate=gate)),
        ws="none",
        loop="none",
        lifespan="off",
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        backlog=4096,
    )


def _within_descriptors(limits: Limits) -> Limits:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.connections if soft == resource.RLIM_INFINITY else max(_LEAST_CONNECTIONS, soft // 2)
    return msgspec.structs.replace(limits, connections=min(limits.connections, most))
