"""What is kept on record of an HTTP exchange."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from waypost.net.exchange import HttpResponse


def shown(response: HttpResponse) -> dict[str, Any]:
    """The answer as it is kept on the attempt. Timings are in microseconds."""
    kept: dict[str, Any] = {
        "status_code": response.status,
        "headers": response.headers,
        "body": response.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "timings": structs.asdict(response.timings),
    }
    if response.truncated:
        kept["truncated"] = True
    return kept
