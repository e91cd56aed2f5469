"""Short words for the API's description: what a route asks for and which errors it may answer with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ADMIN: list[dict[str, list[str]]] = [{"AdminApiKey": []}]
ANYONE: list[dict[str, list[str]]] = [{"AdminApiKey": []}, {"TenantJwt": []}]
NOBODY: list[dict[str, list[str]]] = []

_MEANINGS = {
    400: "The request makes no sense as it stands.",
    401: "Missing or invalid credentials.",
    403: "The credentials do not allow this.",
    404: "There is no such thing.",
    409: "It is being changed by somebody else; try again.",
    413: "The request body is too large.",
    422: "The body or a query parameter breaks a rule.",
    429: "A limit is used up; `Retry-After` says when to try again, `data` what is left.",
    503: "The store takes no changes at the moment; nothing was accepted.",
}

Parameter = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]


def schema(name: str) -> dict[str, Any]:
    """A reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(content: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": content}}


def returns(name: str, description: str = "Done.") -> dict[str, Any]:
    """An answer of a named shape. Named by reference: FastAPI need not build a validator for what it only describes."""
    return {"description": description, "content": json_of(schema(name))}


def returns_list(name: str, description: str = "All of them.") -> dict[str, Any]:
    """An answer that is a plain array."""
    return {"description": description, "content": json_of({"type": "array", "items": schema(name)})}


def errors(*statuses: int) -> Responses:
    """The error answers of a route; 401, 429 (to a tenant's token) and 503 are always among them."""
    return {status: returns("Error", _MEANINGS[status]) for status in sorted({401, 429, 503, *statuses})}


def operation(
    security: list[dict[str, list[str]]], *parameters: Parameter, body: str | None = None, body_required: bool = True
) -> dict[str, Any]:
    """What FastAPI cannot see: who may call, the query parameters, the body's schema."""
    extra: dict[str, Any] = {"security": security}
    if parameters:
        extra["parameters"] = list(parameters)
    if body is not None:
        extra["requestBody"] = {"required": body_required, "content": json_of(schema(body))}
    return extra


def text(name: str, description: str, **more: Any) -> Parameter:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": {"type": "string", **more},
    }


def array(name: str, description: str, options: Sequence[str] = ()) -> Parameter:
    """One value or several: `name[0]=a&name[1]=b`, `name[]=a&name[]=b` or `name=a&name=b`."""
    one: dict[str, Any] = {"type": "string", **({"enum": list(options)} if options else {})}
    several = f"{description} Several: `{name}[0]=a&{name}[1]=b`, `{name}[]=a&{name}[]=b` or `{name}=a&{name}=b`."
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": several,
        "schema": {"oneOf": [one, {"type": "array", "items": one}]},
    }


TIME: Parameter = {
    "name": "time",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "description": "Bounds on the time: `time[gte]=2024-01-01T00:00:00Z&time[lt]=2024-02-01`.",
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            bound: {"type": "string", "format": "date-time", "description": meaning}
            for bound, meaning in (
                ("gte", "Not before."),
                ("lte", "Not after."),
                ("gt", "After."),
                ("lt", "Before."),
            )
        },
    },
}


def bounds(name: str, description: str) -> Parameter:
    """Bounds on a whole number."""
    limits = {bound: {"type": "integer", "minimum": 0, "maximum": 999_999_999} for bound in ("gte", "lte", "gt", "lt")}
    return TIME | {
        "name": name,
        "description": f"{description} `{name}[gte]=...`, also `lte`, `gt`, `lt`.",
        "schema": {"type": "object", "additionalProperties": False, "properties": limits},
    }


def times(name: str, description: str) -> Parameter:
    """Bounds on an instant other than the time that a list is sorted by."""
    return TIME | {"name": name, "description": f"{description} `{name}[gte]=2024-01-01T00:00:00Z`."}


def places(name: str, description: str) -> Parameter:
    """Values by their places."""
    return {
        "name": name,
        "in": "query",
        "required": False,
        "style": "deepObject",
        "explode": True,
        "description": description,
        "schema": {
            "type": "object",
            "propertyNames": {"pattern": r"^[^\[\]]+$"},
            "additionalProperties": {"type": "string"},
        },
    }


def paging(order_by: str, default_limit: int, largest_limit: int, *, or_by: Sequence[str] = ()) -> list[Parameter]:
    """The parameters of every list that comes in pages. Some lists are sorted by something else in some cases."""
    limit = {"type": "integer", "minimum": 1, "maximum": largest_limit, "default": default_limit}
    return [
        {"name": "limit", "in": "query", "required": False, "description": "Most items a page.", "schema": limit},
        text("next", "Cursor of the next page, from `pagination.next`. Not together with `prev`."),
        text("prev", "Cursor of the previous page, from `pagination.prev`. Not together with `next`."),
        text("order_by", "What to sort by.", enum=[order_by, *or_by], default=order_by),
        text("dir", "Which way to sort.", enum=["asc", "desc"], default="desc"),
    ]


INCLUDE: Parameter = array(
    "include",
    "What to show beside each attempt: `event`, `event.data` (the event with its payload), `response_data`, "
    "`request_data`, `destination`.",
    ("event", "event.data", "response_data", "request_data", "destination"),
)
