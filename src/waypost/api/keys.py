"""API keys: the operator's credentials."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Operator
from waypost.api.body import Body
from waypost.api.paths import DECODED
from waypost.core.bodies import json_object
from waypost.core.errors import Invalid

KeyId = Annotated[str, DECODED, Path(description="The key's id.", examples=["key_x1"])]

router = APIRouter(prefix="/api-keys", tags=["API keys"])


@router.get(
    "",
    operation_id="listApiKeys",
    summary="List API keys",
    responses={200: doc.returns_list("ApiKey"), **doc.errors(403)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def list_keys(_: Operator, backend: BackendOf) -> Response:
    """The stored keys by name. The keys themselves are not kept, only their digests."""
    return answer([render.api_key(key) for key in await backend.access.keys()])


@router.post(
    "",
    operation_id="createApiKey",
    summary="Create an API key",
    status_code=201,
    responses={201: doc.returns("NewApiKey"), **doc.errors(400, 403, 413, 422)},
    openapi_extra=doc.operation(doc.ADMIN, body="ApiKeyCreate"),
)
async def create_key(_: Operator, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """The answer holds the key: it is shown this once."""
    return answer(render.new_api_key(await backend.access.add_key(_name(body), by=actor)), 201)


def _name(body: Any) -> str:
    name = json_object(body).get("name")
    if name is None or name == "":
        raise Invalid(["name is required"])
    if not isinstance(name, str):
        raise Invalid(["name must be text"])
    return name


@router.delete(
    "/{key_id}",
    operation_id="revokeApiKey",
    summary="Revoke an API key",
    responses={200: doc.returns("Success"), **doc.errors(400, 403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def revoke_key(key_id: KeyId, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """The key is worthless at once. The last key cannot be revoked."""
    await backend.access.revoke_key(key_id, by=actor)
    return answer({"success": True})
