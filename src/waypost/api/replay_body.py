"""The body that asks for a replay, whose filter has the words of the list of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any

from waypost.api.events import CONDITIONS, conditions
from waypost.api.query import Query
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import BadRequest, Invalid
from waypost.flow.replays import Wish
from waypost.store.base import EventQuery

_FIELDS = ("tenant_id", "destination_id", "events", "missed", "dry_run")
_WORDS = tuple(parameter["name"] for parameter in CONDITIONS)


def read(body: Any, tenant_id: str | None, key_of: Callable[[str], str]) -> tuple[Wish, bool]:
    """What is wanted, and whether it is only to be tried. `tenant_id` is the tenant that is asking. Raises Invalid.

    `key_of` knows the tenants' keys by their ids.
    """
    body = {name: value for name, value in json_object(body).items() if value is not None}
    asked = body.get("events", {})
    problems = strangers(body, _FIELDS, "a replay")
    problems += [f"{name} must be text" for name in _FIELDS[:2] if name in body and not _is_text(body[name])]
    problems += [f"{name} must be true or false" for name in _FIELDS[3:] if not isinstance(body.get(name, False), bool)]
    problems += _faults(asked) if isinstance(asked, dict) else ["events must be an object"]
    problems = problems or list(_contradictions(body, asked, tenant_id))
    if problems:
        raise Invalid(problems)
    if tenant_id is None and "tenant_id" in body:
        tenant_id = key_of(body["tenant_id"])
    query = _selected(asked, tenant_id, key_of)
    wish = Wish(
        tenant_id=query.tenant_ids[0] if len(query.tenant_ids) == 1 else None,
        destination_id=body.get("destination_id"),
        asked=asked,
        query=query,
        missed=body.get("missed", False),
    )
    return wish, body.get("dry_run", False)


def _selected(asked: dict[str, Any], tenant_id: str | None, key_of: Callable[[str], str]) -> EventQuery:
    """What the filter says to the list of events, which overlooks what it does not understand: here it is refused."""
    said = [part for word, value in asked.items() for part in _said(word, value)]
    query = Query([*chain.from_iterable(said)])
    tenant_ids = tuple(map(key_of, query.many("tenant_id"))) if tenant_id is None else (tenant_id,)
    try:
        selected = conditions(query, tenant_ids)
    except Invalid as error:
        raise _of_the_body(error) from None
    except BadRequest as error:
        raise Invalid([f"events.{error}"]) from None
    for place, ((name, _), *_) in enumerate(said):
        others = Query([*chain.from_iterable(said[:place] + said[place + 1 :])])
        if not name.startswith("tenant_id") and conditions(others, tenant_ids) == selected:
            raise Invalid([f"events.{name} is not of a form that `GET /events` knows"])
    return selected


def _contradictions(body: dict[str, Any], asked: dict[str, Any], tenant_id: str | None) -> Iterator[str]:
    if not asked and "destination_id" not in body:
        yield "events or destination_id is required"
    if "destination_id" in body and tenant_id is None and "tenant_id" not in body:
        yield "tenant_id is required with destination_id"
    if "tenant_id" in body and "tenant_id" in asked:
        yield "tenant_id and events.tenant_id cannot be used together"
    if body.get("missed") and "destination_id" not in body:
        yield "destination_id is required with missed"


def _faults(asked: dict[str, Any]) -> list[str]:
    """A word that is not known, or that says nothing, would select more than was meant."""
    problems = [f"events.{word} is not known; use {', '.join(_WORDS)}" for word in asked if word not in _WORDS]
    return problems + [f"events.{word} {fault}" for word, value in asked.items() if (fault := _fault(value))]


def _fault(value: Any) -> str | None:
    parts = list(value.values()) if isinstance(value, dict) else [value]
    texts = [text for part in parts for text in _listed(part)]
    if not texts or [] in parts:
        return "must not be empty"
    fits = all(_is_text(text) or isinstance(text, bool | int | float | Decimal) for text in texts)
    return None if fits else "must be text that is not empty, or a list or an object of such"


def _said(word: str, value: Any) -> Iterator[list[tuple[str, str]]]:
    """As a query string says it (`topic[0]`, `time[gte]`): what an object holds piece by piece, a list in one."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ([(f"{word}[{key}]", _text(text))] for text in _listed(part))
    elif isinstance(value, list):
        yield [(f"{word}[{index}]", _text(text)) for index, text in enumerate(value)]
    else:
        yield [(word, _text(value))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _of_the_body(error: Invalid) -> Invalid:
    """The same about a field of the body as it says about a query parameter."""
    faults = error.data if isinstance(error.data, dict) else {}
    return Invalid([f"events.{name.removeprefix('query.')} {rule}" for name, rule in faults.items()])
