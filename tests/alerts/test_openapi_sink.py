"""The sink itself: what the document allows is taken, everything else refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.alerts.kit import local_tools
from tests.alerts.openapi_sink import OpenApiSink, document, openapi_sink, says
from waypost.connect.connector import Tools
from waypost.net.exchange import HttpRequest, HttpResponse, header_line

_PET: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "maxLength": 3}},
    "additionalProperties": False,
}
PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example/v1"}],
    "components": {"securitySchemes": {"key": {"type": "http", "scheme": "basic"}}},
    "paths": {
        "/pets/{kind}": {
            "post": {
                "security": [{"key": []}],
                "parameters": [
                    {"name": "kind", "in": "path", "required": True, "schema": {"type": "string", "enum": ["cat"]}},
                    {"name": "age", "in": "query", "schema": {"type": "integer"}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": _PET},
                        "application/x-www-form-urlencoded": {"schema": _PET},
                    },
                },
                "responses": {"201": {"description": "Created"}},
            }
        }
    },
}
JSON = {"content-type": "application/json", "authorization": "Basic YTpi"}
FORM = {**JSON, "content-type": "application/x-www-form-urlencoded"}
GOOD = b'{"name": "Tom"}'


async def post(
    tools: Tools, sink: OpenApiSink, path: str, headers: dict[str, str], body: bytes, method: str = "POST"
) -> HttpResponse:
    lines = [header_line(name, value) for name, value in headers.items()]
    return await tools.http.send(HttpRequest(method=method, url=sink.url + path, headers=lines, body=body))


@pytest.mark.parametrize(("headers", "body"), [(JSON, GOOD), (FORM, b"name=Tom")])
async def test_a_valid_request_is_recorded_and_answered(headers: dict[str, str], body: bytes) -> None:
    async with openapi_sink(PETS, says(201, {"id": 7}, retry_after="3")) as sink, local_tools() as tools:
        response = await post(tools, sink, "/v1/pets/cat?age=3", headers, body)
        sink.answer = says(503, {})
        again = await post(tools, sink, "/v1/pets/cat", headers, body)
    assert (response.status, response.body, response.headers["retry-after"]) == (201, b'{"id": 7}', "3")
    assert again.status == 503
    assert [seen.path for seen in sink.accepted] == ["/v1/pets/cat?age=3", "/v1/pets/cat"]
    assert sink.accepted[0].body == body
    assert sink.refused == []


@pytest.mark.parametrize(
    ("path", "headers", "body", "reason"),
    [
        ("/v1/pets/cat", JSON, b'{"name": "Thomas"}', "'Thomas' is too long"),
        ("/v1/pets/cat", JSON, b"{}", "'name' is a required property"),
        ("/v1/pets/cat", JSON, b'{"name": "Tom", "colour": "red"}', "'colour' was unexpected"),
        ("/v1/pets/cat", JSON, b"not json", "MediaTypeDeserializeError"),
        ("/v1/pets/cat", JSON, b"", "MissingRequiredRequestBody"),
        ("/v1/pets/cat", FORM, b"name=Thomas", "'Thomas' is too long"),
        ("/v1/pets/cat", FORM, b"name=Tom&colour=red", "no such fields: colour"),
        ("/v1/pets/cat", {**JSON, "content-type": "text/plain"}, GOOD, "MediaTypeNotFound"),
        ("/v1/pets/cat", {**JSON, "authorization": "Bearer x"}, GOOD, "SecurityValidationError"),
        ("/v1/pets/cat", {"content-type": "application/json"}, GOOD, "SecurityValidationError"),
        ("/v1/pets/dog", JSON, GOOD, "'dog' is not one of ['cat']"),
        ("/v1/pets/cat?age=old", JSON, GOOD, "invalid literal for int()"),
        ("/pets/cat", JSON, GOOD, "ServerNotFound"),
        ("/v1/cats", JSON, GOOD, "PathNotFound"),
    ],
)
async def test_an_invalid_request_is_refused(path: str, headers: dict[str, str], body: bytes, reason: str) -> None:
    async with openapi_sink(PETS, says(201, {})) as sink, local_tools() as tools:
        response = await post(tools, sink, path, headers, body)
    assert (response.status, sink.accepted) == (400, [])
    (refusal,) = sink.refused
    assert reason in refusal
    assert reason in response.body.decode()


async def test_another_method_is_refused() -> None:
    async with openapi_sink(PETS, says(201, {})) as sink, local_tools() as tools:
        response = await post(tools, sink, "/v1/pets/cat", JSON, GOOD, method="PUT")
    assert response.status == 400
    assert "OperationNotFound" in sink.refused[0]


def test_documents_are_kept_beside_the_sink() -> None:
    assert document("twilio")["openapi"].startswith("3.")
