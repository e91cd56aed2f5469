"""Finding events by what is in them: words of the payload, and values at places of the payload and the metadata.

An event is reduced to tokens and a search is a question about tokens, so that a store can keep an index of them and
still ask an event itself that is not in it yet. What a word is, `waypost.core.words` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from waypost.core.filters.document import decode
from waypost.core.filters.values import is_number, number_in, toll
from waypost.core.model import Event
from waypost.core.words import is_piece, words_of

MOST_TERMS = 20
SHORTEST_PREFIX = 2
MOST_TOKENS = 4_096
"""Words of one event that can be found, and values."""
_MOST_STEPS = 25_000
"""Into values of the data, and out of them."""
_MOST_CHARACTERS = 262_144
"""Of one event's texts that are looked through for words."""
_LONGEST_VALUE = 256
_LONGEST_PLACE = 1_024
_LONGEST_NUMBER = 1_000
"""In steps (`waypost.core.filters.price`): some thousand digits."""
_LITERALS = {True: "true", False: "false", None: "null"}
_FACT = "§"
"""What a token begins with that is no word."""

_term = re.compile(r'"([^"]*)"?(\*?)|([^\s"]+)')


class Phrase(Struct, frozen=True):
    """Words that follow one another; with `prefix` the last one is only the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False


class Tokens(Struct, frozen=True):
    """What can be found of an event: its words in their order, and facts about it."""

    words: Sequence[str]
    facts: Sequence[str]

    def __str__(self) -> str:
        return " ".join((*self.words, *self.facts))


class Search(Struct, frozen=True, kw_only=True):
    """Phrases that must all occur, and facts of which one in each group must hold."""

    phrases: tuple[Phrase, ...] = ()
    facts: tuple[tuple[str, ...], ...] = ()

    def finds(self, tokens: Tokens) -> bool:
        facts = set(tokens.facts)
        if any(facts.isdisjoint(group) for group in self.facts):
            return False
        text = f" {' '.join(tokens.words)} "
        return all(f" {' '.join(each.words)}{'' if each.prefix else ' '}" in text for each in self.phrases)


def phrases(query: str) -> tuple[Phrase, ...]:
    """What a person asks for: words, "phrases in quotation marks", and beginnings of words*.

    Raises ValueError with the end of a sentence ("must ...").
    """
    found = [
        _phrase(quoted or "", bool(star)) if not bare else _phrase(bare, bare.endswith("*"))
        for quoted, star, bare in _term.findall(query)
    ]
    kept = tuple(each for each in found if each.words)
    if not kept:
        raise ValueError("must have a word in it")
    if len(kept) > MOST_TERMS:
        raise ValueError(f"must have at most {MOST_TERMS} words and phrases")
    if any(each.prefix and len(each.words[-1]) < SHORTEST_PREFIX for each in kept):
        raise ValueError(f"must have at least {SHORTEST_PREFIX} letters or digits before a *")
    return kept


def _phrase(text: str, prefix: bool) -> Phrase:
    """Where words are pieces of a text without blanks, those that follow are found anyway."""
    words = tuple(words_of(text))
    return Phrase(words, prefix and bool(words) and not is_piece(words[-1]))


def at_place(root: str, path: str, values: Sequence[str]) -> tuple[str, ...]:
    """Facts of which one holds when a value at a place of `data` or `metadata` is one of these.

    The text 42 stands for that text as well as for the number, however the number is written.
    """
    place = f"{root}.{path}"
    return tuple(_fact(place, alternative) for value in values for alternative in _readings(value))


def _readings(value: str) -> Iterator[str]:
    yield _text(value)
    if value in _LITERALS.values():
        yield value
    number = number_in(value)
    if number is not None:
        yield _numeral(number)


def of_tenant(tenant_id: str) -> str:
    return _fact("tenant", tenant_id)


def of_topic(topic: str) -> str:
    return _fact("topic", topic)


def tokens_of(event: Event) -> Tokens:
    """The tokens of an event; what is beyond MOST_TOKENS of either kind is left out.

    So is, before any work is done on it, what stands too far behind in the data or at too long a place.
    """
    facts = [of_tenant(event.tenant_id), of_topic(event.topic)]
    facts += [_fact(f"metadata.{key}", _text(value)) for key, value in (event.metadata or {}).items()]
    texts: list[str] = []
    length = 0
    for place, value in _leaves(_decoded(event.data)):
        if length < _MOST_CHARACTERS and (text := _with_words(value)):
            texts.append(text[: _MOST_CHARACTERS - length])
            length += len(text)
        if len(facts) < MOST_TOKENS and place is not None and (fact := _as_fact(value)):
            facts.append(_fact(place, fact))
    return Tokens(words_of("\n".join(texts))[:MOST_TOKENS], facts[:MOST_TOKENS])


def _leaves(data: Any) -> Iterator[tuple[str | None, Any]]:
    """The scalars in their order, each with its place; None is a place too long to be asked for."""
    pending: list[tuple[str | None, Iterator[Any]]] = [("data", iter([data]))]
    for _ in range(_MOST_STEPS):
        if not pending:
            return
        place, values = pending[-1]
        value = next(values, _END)
        if value is _END:
            pending.pop()
            continue
        if type(value) is _Member:
            place, value = _below(place, value.key), value.value
        if type(value) is dict:
            pending.append((place, map(_Member, value, value.values())))
        elif type(value) is list:
            pending.append((place, iter(value)))
        else:
            yield place, value


class _Member(Struct):
    key: str
    value: Any


_END = object()


def _below(place: str | None, key: str) -> str | None:
    return None if place is None or len(place) + len(key) >= _LONGEST_PLACE else f"{place}.{key}"


def _with_words(value: Any) -> str | None:
    """A scalar as text with words in it."""
    if type(value) is str:
        return value
    return str(value) if is_number(value) and toll(value) <= _LONGEST_NUMBER else None


def _as_fact(value: Any) -> str | None:
    """A scalar as the value of a fact; None for one too long to be asked for."""
    if type(value) is str:
        return _text(value) if len(value) <= _LONGEST_VALUE else None
    if is_number(value):
        return _numeral(value) if toll(value) <= _LONGEST_NUMBER else None
    return _LITERALS[value]


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}


def _text(value: str) -> str:
    return f'"{value}'


def _numeral(number: int | Decimal) -> str:
    """The same text for the same number: 42, 42.0 and 4.2e1."""
    sign, digits, exponent = Decimal(number).as_tuple()
    written = "".join(map(str, digits))
    figures = written.strip("0")
    if not figures:
        return "0"
    return f"{'-' * sign}{figures}e{int(exponent) + len(written) - len(written.rstrip('0'))}"


def _fact(place: str, value: str) -> str:
    digest = blake2b(f"{place}\x00{value}".encode("utf-8", "surrogatepass"), digest_size=6)
    return f"{_FACT}{digest.hexdigest()}"
