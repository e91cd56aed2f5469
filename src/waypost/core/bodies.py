"""The JSON objects that requests hold: what every reader of one asks first."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from waypost.core.errors import Invalid


def json_object(body: object) -> dict[str, Any]:
    """The body, which has to be an object. Raises Invalid."""
    if not isinstance(body, dict):
        raise Invalid(["the body must be a JSON object"])
    return body


def strangers(body: Mapping[str, Any], known: Container[str], what: str) -> list[str]:
    """A sentence for each name in an object that is not a field of `what` ("a topic")."""
    return [f"{name} is not a field of {what}" for name in body if name not in known]
