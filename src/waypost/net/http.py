"""HTTP out of the house."""

from __future__ import annotations

from waypost.net.exchange import (
    HttpRequest,
    HttpResponse,
    HttpSettings,
    Timings,
    header_line,
)
from waypost.net.guard import AddressGuard
from waypost.net.resolve import Resolver

__all__ = ["HttpClient", "HttpRequest", "HttpResponse", "HttpSettings", "Timings", "header_line"]


class HttpClient:
    """Sends requests over libcurl."""

    def __init__(self, settings: HttpSettings, resolver: Resolver, guard: AddressGuard) -> None:
        self.settings = settings

    async def start(self) -> None:
        """Idempotent."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Raises DeliveryError when no answer came."""
        raise NotImplementedError

    async def close(self) -> None:
        """Idempotent; open requests fail."""
