"""Topic names and the patterns by which destinations subscribe to them (specification, section 4.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

TOPIC_MAX_LENGTH = 255
EVERYTHING = "*"

_TOPIC = re.compile(r"[A-Za-z0-9_.:/\-]+")
_PATTERN = re.compile(r"[A-Za-z0-9_.:/\-*]+")


def is_topic(text: str) -> bool:
    """Whether the text can name a topic: letters, digits and `_ . : / -`, at most 255 characters."""
    return len(text) <= TOPIC_MAX_LENGTH and _TOPIC.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether the text can subscribe to topics: a topic name in which `*` stands for any run of characters."""
    return len(text) <= TOPIC_MAX_LENGTH and _PATTERN.fullmatch(text) is not None


def covers(pattern: str, topic: str) -> bool:
    """Whether the pattern covers the topic. `*` matches any run of characters, dots and nothing included.

    >>> covers("user.*", "user.created"), covers("user.*", "username"), covers("*", "")
    (True, False, True)
    """
    if EVERYTHING not in pattern:
        return pattern == topic
    head, *middle, tail = pattern.split(EVERYTHING)
    if len(topic) < len(head) + len(tail) or not topic.startswith(head) or not topic.endswith(tail):
        return False
    at, end = len(head), len(topic) - len(tail)
    for part in middle:
        found = topic.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """One test for a whole subscription, built once per destination version. An event without a topic has topic ""."""
    patterns = tuple(patterns)
    if EVERYTHING in patterns:
        return lambda _topic: True
    exact = frozenset(p for p in patterns if EVERYTHING not in p)
    wild = tuple(p for p in patterns if EVERYTHING in p)
    if not wild:
        return exact.__contains__
    return lambda topic: topic in exact or any(covers(pattern, topic) for pattern in wild)


def unknown(patterns: Iterable[str], catalogue: Iterable[str]) -> list[str]:
    """The patterns that no topic of the catalogue satisfies. An empty catalogue allows everything."""
    topics = tuple(catalogue)
    if not topics:
        return []
    return [p for p in patterns if p != EVERYTHING and not any(covers(p, topic) for topic in topics)]


def union(patterns: Iterable[str]) -> tuple[str, ...]:
    """Several subscriptions as one: sorted, without repetition, `("*",)` if any of them takes everything."""
    unique = frozenset(patterns)
    return (EVERYTHING,) if EVERYTHING in unique else tuple(sorted(unique))
