"""What is kept on record of an HTTP exchange: all but credentials."""

from __future__ import annotations

import re
from typing import Any

from msgspec import structs

from waypost.net.exchange import HttpRequest, HttpResponse

_HOLDS_CREDENTIALS = re.compile(r"authorization|token|secret|password|api-?key|cookie", re.IGNORECASE)
"""Names of headers whose values are not to be seen."""


def sent(request: HttpRequest) -> dict[str, Any]:
    """The request as it is kept on the attempt. Its size is that of the body, in bytes."""
    headers = dict(map(_header, request.headers))
    return {"method": request.method, "url": request.url, "headers": headers, "size": len(request.body)}


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.removesuffix(";").partition(": ")
    return name, "****" if _HOLDS_CREDENTIALS.search(name) else value


def answered(response: HttpResponse) -> dict[str, Any]:
    """The answer without its body. Timings are in microseconds."""
    kept = {
        "status_code": response.status,
        "headers": response.headers,
        "timings": structs.asdict(response.timings),
    }
    return kept | {"resent": True} if response.resent else kept


def shown(response: HttpResponse) -> dict[str, Any]:
    """The answer as it is kept on the attempt."""
    kept = answered(response) | {"body": response.body.decode("utf-8", "replace").replace("\x00", "\ufffd")}
    return kept | {"truncated": True} if response.truncated else kept
