"""Keys, subjects and names that a customer makes out of the event: a small template with JMESPath.

A template is a JMESPath expression (`data.customer.id`), or text in which expressions stand in double braces
(`orders.{{data.country}}.{{topic}}`). Expressions look at `{id, topic, time, metadata, data}`: `metadata` is what
travels beside the event, `time` the event's own time in UTC in its parts (`time.year` ... `time.second`, padded with
zeros, `time.date`, `time.unix`, `time.rfc3339`, `time.rfc3339_nano`). They come to a text, a number, true or false.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import prod
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.parser import ParsedResult

from waypost.connect.connector import Message
from waypost.core import times
from waypost.core.errors import DeliveryError
from waypost.core.model import SECOND, Micros

Template = Callable[[Message], str]
"""Renders one message. Raises DeliveryError `template_failed` when nothing usable comes of it."""

LONGEST_TEMPLATE = 1_024
ROOTS = ("id", "topic", "time", "metadata", "data")
_LONGEST_RESULT = 65_536
_LARGEST_GROWTH = 64
"""How many times as large as the event the intermediate values of one expression may become."""

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}(?!\})", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Node = dict[str, Any]


def compile_template(text: str, *, otherwise: Template | None = None) -> Template:
    """The template, ready to use. Raises ValueError with the end of a sentence ("must ...") for a bad one.

    `otherwise` is used where the event lacks what the template asks for (null or an empty text).
    """
    if len(text) > LONGEST_TEMPLATE:
        raise ValueError(f"must be at most {LONGEST_TEMPLATE} characters")
    parts = _parts(text)
    seen = frozenset(name for part in parts if isinstance(part, Expression) for name in part.seen)

    def render(message: Message) -> str:
        scope = _scope(message, seen)
        rendered = [part if isinstance(part, str) else part.render(scope) for part in parts]
        if all(rendered):
            return "".join(part for part in rendered if part is not None)
        if otherwise is not None:
            return otherwise(message)
        raise _failed(text, "finds nothing in this event")

    return render


def template_problems(path: str, text: str | None) -> list[str]:
    """What is wrong with a template in a destination's config, as sentences that start with its path."""
    try:
        if text:
            compile_template(text)
    except ValueError as error:
        return [f"{path} {error}"]
    return []


def event_id(message: Message) -> str:
    """The usual key where a template finds none."""
    return message.event.id


# the text


def _parts(text: str) -> list[str | Expression]:
    """Literal text and expressions in turn."""
    if "{{" not in text:
        return [Expression(text)]
    pieces = _PLACEHOLDER.split(text)
    if any("{{" in literal for literal in pieces[::2]):
        raise ValueError("must close every {{ with }}")
    return [Expression(piece) if index % 2 else piece for index, piece in enumerate(pieces) if index % 2 or piece]


class Expression:
    """One JMESPath expression that has been found to be safe to evaluate."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._parsed = _parsed(self._text)
        self._options = jmespath.Options(custom_functions=_BoundedFunctions())
        tree = cast("_Node", self._parsed.parsed)
        _refuse(tree)
        self.seen = _roots(tree)

    def render(self, scope: dict[str, Any]) -> str | None:
        """The expression's value as text, None when there is none. Raises DeliveryError."""
        try:
            value = self._parsed.search(scope, options=self._options)
        except (JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise _failed(self._text, f"fails on this event: {_reason(error)}") from error
        if isinstance(value, dict | list) and not isinstance(value, _Time):
            raise _failed(self._text, "must come to a text or a number, not to an object or a list")
        shown = _shown(value)
        if shown is not None and len(shown) > _LONGEST_RESULT:
            raise _failed(self._text, f"comes to more than {_LONGEST_RESULT} characters")
        return shown


def _shown(value: Any) -> str | None:
    if isinstance(value, _Time):
        return value["rfc3339"]
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else _sound(str(value))


def _sound(text: str) -> str:
    """The text with half surrogate pairs, which JSON can spell but UTF-8 cannot, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _reason(error: Exception) -> str:
    return "it is too deep" if isinstance(error, RecursionError) else str(error).partition("\n")[0]


def _failed(text: str, why: str) -> DeliveryError:
    return DeliveryError("template_failed", f"The template {text} {why}", retryable=False)


# what an expression sees


class _Time(dict[str, str]):
    """An instant in its parts; as a whole it is rendered as RFC 3339."""


def _scope(message: Message, seen: frozenset[str]) -> dict[str, Any]:
    """The event, as far as it is seen: what is not looked at is not decoded."""
    event = message.event
    scope: dict[str, Any] = {"id": event.id, "topic": event.topic, "metadata": message.metadata}
    if "time" in seen:
        scope["time"] = _time(event.time)
    if "data" in seen:
        scope["data"] = _data(event.data)
    return scope


def _data(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeliveryError("template_failed", "The event's data cannot be read as JSON", retryable=False) from error


def _time(instant: Micros) -> _Time:
    moment = _EPOCH + timedelta(microseconds=instant)
    date, clock = moment.strftime("%Y-%m-%d"), moment.strftime("%H:%M:%S")
    year, month, day = date.split("-")
    hour, minute, second = clock.split(":")
    return _Time(
        year=year.zfill(4),
        month=month,
        day=day,
        hour=hour,
        minute=minute,
        second=second,
        date=date,
        unix=str(instant // SECOND),
        rfc3339=times.render(instant),
        rfc3339_nano=f"{date}T{clock}.{moment.microsecond:06}000Z",
    )


# what is refused


def _parsed(text: str) -> ParsedResult:
    try:
        return jmespath.compile(text)
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None
    except (JMESPathError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(": .")
        raise ValueError(f"must be a JMESPath expression: {reason}") from error


def _refuse(tree: _Node) -> None:
    """Raise ValueError for what JMESPath itself only finds out while it runs, and for what could run away."""
    for node in _nodes(tree):
        if node["type"] == "function_expression":
            _refuse_call(node["value"], len(node["children"]))
    unknown = next((name for name in _first_fields(tree) if name not in ROOTS), None)
    if unknown is not None:
        raise ValueError(f"must start from one of {', '.join(ROOTS)}: there is no {unknown}")
    if _growth(tree) > _LARGEST_GROWTH:
        raise ValueError("must not multiply the event: too many lists or objects are built on one another")


def _refuse_call(name: str, given: int) -> None:
    function = Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise ValueError(f"must not use the unknown function {name}()")
    signature = function["signature"]
    variadic = bool(signature) and signature[-1].get("variadic", False)
    if given < len(signature) or (given > len(signature) and not variadic):
        raise ValueError(f"must give {name}() {len(signature)} argument{'s' * (len(signature) != 1)}")


def _children(node: _Node) -> list[_Node]:
    return [child for child in node["children"] if isinstance(child, dict)]


def _nodes(tree: _Node) -> Iterator[_Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _children(node)


def _first_fields(node: _Node) -> Iterator[str]:
    """The names that are looked up in the event itself, not in what an earlier step came to."""
    if node["type"] == "field":
        yield node["value"]
    elif node["type"] != "expref":
        for child in _children(node) if node["type"] in _SIDE_BY_SIDE else _children(node)[:1]:
            yield from _first_fields(child)


def _roots(tree: _Node) -> frozenset[str]:
    """Which of the event's parts the expression looks at: all of them where it can get hold of the event itself."""
    whole = any(node["type"] in ("current", "identity") for node in _nodes(tree))
    return frozenset(ROOTS if whole else _first_fields(tree))


_SIDE_BY_SIDE = frozenset(
    {
        "and_expression",
        "comparator",
        "function_expression",
        "key_val_pair",
        "multi_select_dict",
        "multi_select_list",
        "or_expression",
    }
)
"""Nodes whose children all look at the same value; of the others only the first child sees what the node sees."""


def _growth(node: _Node) -> int:
    """An upper bound for the size of a node's value in sizes of the event.

    `[@, @] | [@, @] | ...` doubles with every step; quoting does so too, where a list becomes text (`to_string([@])`).
    """
    below = [_growth(child) for child in _children(node)]
    return max(2, sum(below)) if node["type"].startswith("multi_select") else prod(below)


class _BoundedFunctions(Functions):
    """JMESPath's own functions, with a limit for the one that multiplies two parts of the event."""

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, texts: list[str]) -> str:
        if len(separator) * len(texts) + sum(map(len, texts)) > _LONGEST_RESULT:
            raise ValueError(f"join() comes to more than {_LONGEST_RESULT} characters")
        return separator.join(texts)
