"""What a caller asks a destination to be: the JSON object of a create or an update, read and checked.

Only what can be said without the stored destination and its type is checked here; `manage` does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import UNSET, Struct, UnsetType

from waypost.core import times, topics
from waypost.core.bodies import json_object, strangers
from waypost.core.model import Micros, Subscription
from waypost.flow.textmaps import Changes

T = TypeVar("T")

ID_MAX_LENGTH = 128
MOST_PATTERNS = 500
MOST_SUBSCRIPTIONS = 20

ID_PATTERN = rf"(?!\.{{1,2}}$)[A-Za-z0-9_.:@|~+=-]{{1,{ID_MAX_LENGTH}}}"
"""What a caller may choose as an id: whatever stands in a URL as it is, but for the two dots that lead elsewhere."""

_ID = re.compile(ID_PATTERN)
_ID_RULE = f"must be 1 to {ID_MAX_LENGTH} letters, digits or _ - . : @ | ~ + ="
_SHOWN_ONLY = frozenset({"target", "target_url"})


class Draft(Struct, frozen=True, kw_only=True):
    """The parts that were sent; the others are UNSET. A null instant is None, no subscriptions are ()."""

    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    topics: tuple[str, ...] | UnsetType = UNSET
    filter: dict[str, Any] | UnsetType | None = UNSET
    subscriptions: tuple[Subscription, ...] | UnsetType = UNSET
    config: Changes = UNSET
    credentials: Changes = UNSET
    delivery_metadata: Changes = UNSET
    metadata: Changes = UNSET
    retry_policy: Changes = UNSET
    created_at: Micros | UnsetType | None = UNSET
    updated_at: Micros | UnsetType | None = UNSET
    disabled_at: Micros | UnsetType | None = UNSET


class Rules(Struct, frozen=True, kw_only=True):
    """What a draft is checked against: the topic catalogue (empty = any), the filter language, the present instant."""

    catalogue: tuple[str, ...]
    read_filter: Callable[[Any, list[str]], dict[str, Any] | None]
    now: Micros


def id_problem(field: str, value: object) -> str | None:
    """What is wrong with an id that a caller chose; None when nothing is."""
    return None if isinstance(value, str) and _ID.fullmatch(value) else f"{field} {_ID_RULE}"


def read(body: object, rules: Rules) -> tuple[Draft, list[str]]:
    """The draft in a JSON object and the sentences about its faults. Raises Invalid for anything but an object."""
    sent = json_object(body)
    problems = strangers(sent, _KNOWN, "a destination")
    present = {name: value for name, value in sent.items() if name in _READERS}
    return Draft(**{name: _READERS[name](name, value, rules, problems) for name, value in present.items()}), problems


def _id(name: str, value: object, _rules: Rules, problems: list[str]) -> str | UnsetType:
    if value is None or value == "":
        return UNSET
    problem = id_problem(name, value)
    if problem is not None or not isinstance(value, str):
        problems.append(problem or f"{name} {_ID_RULE}")
        return UNSET
    return value


def _type(name: str, value: object, _rules: Rules, problems: list[str]) -> str | UnsetType:
    if isinstance(value, str):
        return value
    problems.append(f"{name} must be text")
    return UNSET


def _topics(name: str, value: object, rules: Rules, problems: list[str]) -> tuple[str, ...] | UnsetType:
    patterns = [topics.EVERYTHING] if value == topics.EVERYTHING else value
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        problems.append(f'{name} must be "*" or a list of topics')
        return UNSET
    problems += _faults_of_patterns(name, patterns, rules.catalogue)
    return (topics.EVERYTHING,) if topics.EVERYTHING in patterns else tuple(dict.fromkeys(patterns))


def _faults_of_patterns(name: str, patterns: list[str], catalogue: tuple[str, ...]) -> list[str]:
    if not 0 < len(patterns) <= MOST_PATTERNS:
        return [f"{name} must have 1 to {MOST_PATTERNS} entries"]
    malformed = [
        f"{name}.{index} must be 1 to {topics.TOPIC_MAX_LENGTH} letters, digits or _ - . : / *"
        for index, pattern in enumerate(patterns)
        if not topics.is_pattern(pattern)
    ]
    unknown = [f"{name}: no known topic is covered by {pattern}" for pattern in topics.unknown(patterns, catalogue)]
    return malformed or unknown


def _filter(_name: str, value: object, rules: Rules, problems: list[str]) -> dict[str, Any] | None:
    return None if value is None or value == {} else rules.read_filter(value, problems)


def _subscriptions(name: str, value: object, rules: Rules, problems: list[str]) -> tuple[Subscription, ...] | UnsetType:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_SUBSCRIPTIONS:
        problems.append(f"{name} must be a list of at most {MOST_SUBSCRIPTIONS} subscriptions")
        return UNSET
    return tuple(_subscription(f"{name}.{index}", part, rules, problems) for index, part in enumerate(value))


def _subscription(where: str, value: object, rules: Rules, problems: list[str]) -> Subscription:
    if not isinstance(value, dict):
        problems.append(f"{where} must be an object")
        return Subscription(topics=())
    found = strangers(value, {"topics", "filter"}, "a subscription")
    if "topics" in value:
        patterns = _topics("topics", value["topics"], rules, found)
    else:
        patterns = UNSET
        found.append("topics is required")
    filter_ = _filter("filter", value.get("filter"), rules, found)
    problems += [f"{where}.{problem}" for problem in found]
    return Subscription(topics=sent(patterns, ()), filter=filter_)


def _object(name: str, value: object, _rules: Rules, problems: list[str]) -> Changes:
    if value is None or isinstance(value, dict):
        return value
    problems.append(f"{name} must be an object")
    return UNSET


def _instant(name: str, value: object, rules: Rules, problems: list[str]) -> Micros | UnsetType | None:
    if value is None:
        return None
    instant = times.parse(value) if isinstance(value, str) else None
    if instant is None:
        problems.append(f"{name} must be an RFC 3339 date-time")
    elif instant > rules.now:
        problems.append(f"{name} must not be in the future")
    return UNSET if instant is None else instant


_READERS: Mapping[str, Callable[[str, Any, Rules, list[str]], Any]] = {
    "id": _id,
    "type": _type,
    "topics": _topics,
    "filter": _filter,
    "subscriptions": _subscriptions,
    "config": _object,
    "credentials": _object,
    "delivery_metadata": _object,
    "metadata": _object,
    "retry_policy": _object,
    "created_at": _instant,
    "updated_at": _instant,
    "disabled_at": _instant,
}
_KNOWN = _READERS.keys() | _SHOWN_ONLY


def sent(value: T | UnsetType | None, otherwise: T) -> T:
    """The value that was sent, or the other one when it was left out or null."""
    return otherwise if value is None or isinstance(value, UnsetType) else value
