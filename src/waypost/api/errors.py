"""Every error as JSON: `{"status": int, "message": str, "data"?: ...}`. The one place where errors become answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from waypost.api.answers import answer
from waypost.core.errors import Refused, TooMany, Unauthorized, Unavailable, WaypostError

RETRY_AFTER_SECONDS = 1

Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the body that an error is answered with."""
    if isinstance(error, Refused):
        return error.status, _body(error.status, error.message, error.data)
    if isinstance(error, Unavailable):
        return 503, _body(503, "temporarily unavailable; nothing was accepted")
    return 500, _body(500, "internal server error")


def headers_of(error: Exception) -> dict[str, str]:
    """What an error's answer says in its header beside the body."""
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, TooMany):
        return {"retry-after": str(error.retry_after)}
    return {"retry-after": str(RETRY_AFTER_SECONDS)} if isinstance(error, Unavailable) else {}


def _body(status: int, message: str, data: Any = None) -> dict[str, Any]:
    body = {"status": status, "message": message}
    return body if data is None else body | {"data": data}


async def _waypost(_request: Request, error: WaypostError) -> Response:
    status, body = describe(error)
    return answer(body, status, headers_of(error))


async def _http(request: Request, error: HTTPException) -> Response:
    message = HTTPStatus(error.status_code).phrase.lower()
    headers = {"allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return answer(_body(error.status_code, message), error.status_code, headers)


def _allowed(request: Request) -> str:
    """All methods of a path (RFC 9110, 10.2.1); the framework names those of one route only."""
    methods: set[str] = set()
    for prefix, router in request.app.state.routers:
        below = request.url.path.removeprefix(prefix)
        for route in router.routes:
            if isinstance(route, Route) and route.path_regex.match(below):
                methods |= route.methods or set()
    return ", ".join(sorted(methods))


async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    sentences = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    return answer(_body(422, "validation error", sentences), 422)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    return answer(_body(500, "internal server error"), 500)


HANDLERS: Mapping[int | type[Exception], Handler] = {
    Refused: _waypost,
    Unavailable: _waypost,
    HTTPException: _http,
    RequestValidationError: _invalid,
    Exception: _unexpected,
}
