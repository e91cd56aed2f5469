"""The topic catalogue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, Operator
from waypost.api.body import Body
from waypost.api.paths import DECODED
from waypost.api.query import QueryOf

TopicName = Annotated[str, DECODED, Path(description="The topic's name.", examples=["order.shipped"])]

router = APIRouter(prefix="/topics", tags=["Topics"])

_NAMES = {"type": "array", "items": {"type": "string", "examples": ["order.shipped"]}}
_DETAILS = {"type": "array", "items": doc.schema("Topic")}
_ONE = doc.returns("Topic", "The topic.")


@router.get(
    "",
    operation_id="listTopics",
    summary="List topics",
    responses={
        200: {
            "description": "The names of the topics, or the topics themselves.",
            "content": doc.json_of({"oneOf": [_NAMES, _DETAILS]}),
        },
        **doc.errors(422),
    },
    openapi_extra=doc.operation(
        doc.ANYONE, doc.text("details", "`true`: the topics with all that is known of them.", enum=["true", "false"])
    ),
)
async def list_topics(_: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """The topics that events are published under. An empty list: there is no catalogue, any topic will do."""
    if query.choice("details", ("true", "false")) == "true":
        return answer([render.topic(listed) for listed in backend.catalogue.listed()])
    return answer(backend.catalogue.names)


@router.get(
    "/{name:path}",
    operation_id="getTopic",
    summary="Get a topic",
    responses={200: _ONE, **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_topic(name: TopicName, _: Caller, backend: BackendOf) -> Response:
    """One topic, with the JSON Schema of its data and an example."""
    return answer(render.topic(backend.catalogue.topic(name)))


@router.put(
    "/{name:path}",
    operation_id="putTopic",
    summary="Create or replace a topic",
    responses={
        200: doc.returns("Topic", "It was there and is replaced."),
        201: doc.returns("Topic", "It is new."),
        **doc.errors(400, 403, 413, 422),
    },
    openapi_extra=doc.operation(doc.ADMIN, body="TopicPut"),
)
async def put_topic(name: TopicName, _: Operator, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """Idempotent. The topic is replaced as a whole: what is left out of the request is cleared.

    With the first topic only those of the catalogue can be published. Topics of the server's settings are read-only.
    """
    put, created = await backend.catalogue.put(name, body, by=actor)
    return answer(render.topic(put), 201 if created else 200)


@router.delete(
    "/{name:path}",
    operation_id="deleteTopic",
    summary="Delete a topic",
    responses={200: doc.returns("Success"), **doc.errors(400, 403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def delete_topic(name: TopicName, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """Nothing can be published under it any more. Destinations stay subscribed; events stay on record."""
    await backend.catalogue.delete(name, by=actor)
    return answer({"success": True})
