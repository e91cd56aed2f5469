"""The kinds of destination, with the forms to fill in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller
from waypost.api.paths import DECODED
from waypost.core.errors import NotFound

TypeName = Annotated[str, DECODED, Path(alias="type", description="The name of the type.", examples=["webhook"])]

router = APIRouter(prefix="/destination-types", tags=["Destination types"])


@router.get(
    "",
    operation_id="listDestinationTypeSchemas",
    summary="List destination types",
    responses={200: doc.returns_list("DestinationTypeSchema"), **doc.errors()},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def list_types(_: Caller, backend: BackendOf) -> Response:
    """All installed types: what each is called, how to set it up, which fields it has."""
    return answer([kind.describe() for kind in backend.registry.values()])


@router.get(
    "/{type}",  # noqa: FAST003  taken by its alias
    operation_id="getDestinationTypeSchema",
    summary="Get a destination type",
    responses={200: doc.returns("DestinationTypeSchema"), **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_type(name: TypeName, _: Caller, backend: BackendOf) -> Response:
    """One type."""
    kind = backend.registry.get(name)
    if kind is None:
        raise NotFound("destination type not found")
    return answer(kind.describe())
