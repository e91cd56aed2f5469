"""The API's description for machines at `/openapi.json`, and for people at `/docs`. Everything comes from Waypost."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources

import msgspec
from fastapi import APIRouter, Request
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from waypost.api import openapi

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {"rapidoc-min.js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Waypost API</title>
<link rel="icon" href="data:,">
<script type="module" src="/docs/assets/rapidoc-min.js"></script>
</head>
<body>
<rapi-doc spec-url="/openapi.json" render-style="focused" load-fonts="false" show-header="false"
 allow-spec-file-download="true" schema-description-expanded="true" persist-auth="false"
 regular-font="system-ui, sans-serif" mono-font="ui-monospace, monospace">
<noscript>The reference needs JavaScript. The description itself is at <a href="/openapi.json">/openapi.json</a>.
</noscript>
</rapi-doc>
</body>
</html>
"""


class Asset(Struct, frozen=True):
    content: bytes
    media_type: str
    tag: str


@cache
def _asset(name: str) -> Asset:
    content = resources.files("waypost.api").joinpath("assets", name).read_bytes()
    return Asset(content, _MEDIA_TYPES[name], f'"{sha256(content).hexdigest()[:32]}"')


@router.get("/openapi.json")
async def description(request: Request) -> Response:
    return Response(_described(request), media_type="application/json", headers={"cache-control": "no-cache"})


def _described(request: Request) -> bytes:
    """The description, written once in the life of an app."""
    state = request.app.state
    if state.description is None:
        state.description = msgspec.json.encode(openapi.document(request.app, state.backend.registry, state.prefix))
    written: bytes = state.description
    return written


@router.get("/docs")
async def page() -> Response:
    headers = {
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return HTMLResponse(_PAGE, headers=headers)


@router.get("/docs/assets/{name}")
async def asset(name: str, request: Request) -> Response:
    if name not in _MEDIA_TYPES:
        raise HTTPException(404)
    found = _asset(name)
    headers = {"etag": found.tag, "cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers | {"content-type": found.media_type})
