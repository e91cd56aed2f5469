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
from waypost.core import times
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import Invalid
from waypost.core.model import Micros
from waypost.flow.access import SCOPES

_FIELDS = ("name", "scopes", "tenant_id", "expires_at")

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
    responses={201: doc.returns("NewApiKey"), **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ADMIN, body="ApiKeyCreate"),
)
async def create_key(_: Operator, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """The answer holds the key: it is shown this once.

    A key has the scope `admin` unless it is given others: `publish` allows publishing alone, `read` looking at
    everything and changing nothing. With `tenant_id` it is for that tenant only and ends with it.
    """
    sent = json_object(body)
    problems = strangers(sent, _FIELDS, "an API key")
    name, scopes = _name(sent, problems), _scopes(sent, problems)
    tenant_id, expires_at = _text(sent, "tenant_id", problems), _instant(sent, problems)
    if problems:
        raise Invalid(problems)
    new = await backend.access.add_key(
        name,
        scopes=scopes,
        tenant_id=None if tenant_id is None else backend.store.key_of(tenant_id),
        expires_at=expires_at,
        by=actor,
    )
    return answer(render.new_api_key(new), 201)


def _name(sent: dict[str, Any], problems: list[str]) -> str:
    name = _text(sent, "name", problems)
    if not name and sent.get("name") in (None, ""):
        problems.append("name is required")
    return name or ""


def _text(sent: dict[str, Any], field: str, problems: list[str]) -> str | None:
    value = sent.get(field)
    if value is None or isinstance(value, str):
        return value
    problems.append(f"{field} must be text")
    return None


def _scopes(sent: dict[str, Any], problems: list[str]) -> list[str]:
    scopes = sent.get("scopes")
    if scopes is None:
        return ["admin"]
    if not isinstance(scopes, list) or not scopes or not all(scope in SCOPES for scope in scopes):
        problems.append(f"scopes must be a list of at least one of: {', '.join(SCOPES)}")
        return []
    return scopes


def _instant(sent: dict[str, Any], problems: list[str]) -> Micros | None:
    text = _text(sent, "expires_at", problems)
    instant = None if text is None else times.parse(text)
    if text is not None and instant is None:
        problems.append("expires_at must be an RFC 3339 date-time")
    return instant


@router.delete(
    "/{key_id}",
    operation_id="revokeApiKey",
    summary="Revoke an API key",
    responses={200: doc.returns("Success"), **doc.errors(400, 403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def revoke_key(key_id: KeyId, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """The key is worthless at once. The last key that opens everything and does not expire cannot be revoked."""
    await backend.access.revoke_key(key_id, by=actor)
    return answer({"success": True})
