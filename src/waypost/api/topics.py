"""The topic catalogue."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller

router = APIRouter(prefix="/topics", tags=["Topics"])


@router.get(
    "",
    operation_id="listTopics",
    summary="List topics",
    responses={
        200: {
            "description": "The names of the topics.",
            "content": doc.json_of({"type": "array", "items": {"type": "string", "examples": ["order.shipped"]}}),
        },
        **doc.errors(),
    },
    openapi_extra=doc.operation(doc.ANYONE),
)
async def list_topics(_: Caller, backend: BackendOf) -> Response:
    """The topics that events are published under. An empty list: there is no catalogue, any topic will do."""
    return answer(backend.manager.topics)
