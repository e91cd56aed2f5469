"""Keys, subjects and names that a customer makes out of the event: a small template with JMESPath.

A template is a JMESPath expression (`data.customer.id`), or text in which expressions stand in double braces
(`orders.{{data.country}}.{{topic}}`). Expressions look at `{id, topic, time, metadata, data}`: `metadata` is what
travels beside the event, `time` the event's own time in UTC in its parts (`time.year` ... `time.second`, padded with
zeros, `time.date`, `time.unix`, `time.rfc3339`, `time.rfc3339_nano`). They come to a text, a number, true or false.

What a template may do with one message is bounded by steps, of about a microsecond: one for each node of an expression
that is visited, for 5 values of the data that are read, and for a value or 64 characters of text in what a function or
a comparison is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from math import prod
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

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


def compile_template(text: str, *, field: str = "", otherwise: Template | None = None) -> Template:
    """The template, ready to use. Raises ValueError with the end of a sentence ("must ...") for a bad one.

    `otherwise` is used where the event lacks what the template asks for (null or an empty text). `field` is named when
    the template fails.
    """
    if len(text) > LONGEST_TEMPLATE:
        raise ValueError(f"must be at most {LONGEST_TEMPLATE} characters")
    parts = _parts(text)
    seen = frozenset(name for part in parts if isinstance(part, Expression) for name in part.seen)

    place = f"config.{field}: " if field else ""

    def render(message: Message) -> str:
        work = Work(message.template_steps)
        try:
            scope = _scope(message, seen, work)
            rendered = [part if isinstance(part, str) else part.render(scope, work) for part in parts]
        except _Failed as failure:
            raise DeliveryError("template_failed", f"{place}{failure}", retryable=False) from failure.__cause__
        if all(rendered):
            return "".join(part for part in rendered if part is not None)
        if otherwise is not None:
            return otherwise(message)
        raise DeliveryError("template_failed", f"{place}{_about(text)} finds nothing in this event", retryable=False)

    return _once(render) if "metadata" not in seen and "data" in seen else render


_REMEMBERED = 256
_LONGEST_REMEMBERED = 1_024


def _once(render: Template) -> Template:
    """The same, with the last results at hand: retries of a delivery come to the same."""
    known: dict[tuple[int, str], str] = {}

    def remembered(message: Message) -> str:
        event = message.event.seq, message.event.id
        text = known.get(event)
        if text is None:
            text = render(message)
            if len(text) <= _LONGEST_REMEMBERED:
                known[event] = text
            if len(known) > _REMEMBERED:
                del known[next(iter(known))]
        return text

    return remembered


class Work:
    """The steps that are left for one message."""

    def __init__(self, steps: int) -> None:
        self._given = self._left = steps

    def spend(self, steps: int) -> None:
        """Account for work that is about to be done. Raises _TooMuch."""
        self._left -= steps
        if self._left < 0:
            raise _TooMuch(f"takes more than {self._given} steps for this event")

    def look_at(self, *values: Any) -> None:
        """Spend what it costs to go through all that is in these values."""
        pending = list(values)
        while pending:
            value = pending.pop()
            self.spend(1 + (len(value) >> 6 if isinstance(value, str) else 0))
            if isinstance(value, dict | list):
                self.spend(len(value) >> 3)
                pending += value.values() if isinstance(value, dict) else value


class _TooMuch(Exception):  # like JMESPath's own errors, which end an expression
    """An expression takes too much work."""


class _Failed(Exception):
    """The sentence about a template or expression that comes to nothing usable."""


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
        tree = cast("_Node", self._parsed.parsed)
        try:
            _refuse(tree)
            self.seen = _roots(tree)
        except RecursionError:
            raise ValueError("must not be nested so deeply") from None

    def render(self, scope: dict[str, Any], work: Work) -> str | None:
        """The expression's value as text, None when there is none. Raises _Failed."""
        options = jmespath.Options(custom_functions=_BoundedFunctions(work))
        try:
            value = _Interpreter(options, work).visit(self._parsed.parsed, scope)
        except _TooMuch as error:
            raise _failed(self._text, str(error)) from None
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


def _failed(text: str, why: str) -> _Failed:
    return _Failed(f"{_about(text)} {why}")


def _about(text: str) -> str:
    return f"The template {text}"


# what an expression sees


class _Time(dict[str, str]):
    """An instant in its parts; as a whole it is rendered as RFC 3339."""


def _scope(message: Message, seen: frozenset[str], work: Work) -> dict[str, Any]:
    """The event, as far as it is seen: what is not looked at is not decoded."""
    event = message.event
    scope: dict[str, Any] = {"id": event.id, "topic": event.topic, "metadata": message.metadata}
    if "time" in seen:
        scope["time"] = _time(event.time)
    if "data" in seen:
        scope["data"] = _data(event.data, work)
    return scope


_VALUES_A_STEP = 5
_BYTES_A_STEP = 512


def _data(text: bytes, work: Work) -> Any:
    """The JSON; integers of more than 4,300 digits as text."""
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    try:
        work.spend(values // _VALUES_A_STEP + len(text) // _BYTES_A_STEP)
    except _TooMuch:
        raise _Failed("The event's data is too large to be read for a template") from None
    try:
        return _json(text)
    except (ValueError, RecursionError) as error:
        raise _Failed("The event's data cannot be read as JSON") from error


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, parse_int=_integer)


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


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


class _Interpreter(TreeInterpreter):
    """JMESPath's own interpreter, which counts what it does."""

    def __init__(self, options: jmespath.Options, work: Work) -> None:
        super().__init__(options)
        self._work = work
        self.COMPARATOR_FUNC = {  # type: ignore[misc]  # the one way in: the class's are called without the interpreter
            name: partial(self._compared, compare) for name, compare in TreeInterpreter.COMPARATOR_FUNC.items()
        }

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._work.spend(1)
        return super().visit(node, *args, **kwargs)

    def _compared(self, compare: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        self._work.look_at(left if type(left) is type(right) else None)
        return compare(left, right)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        flat = super().visit_flatten(node, value)
        self._work.spend(len(flat or ()) >> 3)
        return flat

    def visit_slice(self, node: Any, value: Any) -> Any:
        self._work.spend(len(value) >> 5 if isinstance(value, list) else 0)
        return super().visit_slice(node, value)


_CHEAP = frozenset({"length", "type", "not_null", "to_array", "starts_with", "ends_with"})
"""Functions that look at none of what is in their arguments."""


class _BoundedFunctions(Functions):
    """JMESPath's own functions, which count what they do, with a limit for the one that multiplies two parts."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        if function_name not in _CHEAP:
            self._work.look_at(*resolved_args)
        return super().call_function(function_name, resolved_args)

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, texts: list[str]) -> str:
        if len(separator) * len(texts) + sum(map(len, texts)) > _LONGEST_RESULT:
            raise ValueError(f"join() comes to more than {_LONGEST_RESULT} characters")
        return separator.join(texts)
