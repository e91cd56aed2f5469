"""Words and values: what a search says, and what it finds."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import event
from waypost.core.search import (
    MOST_TERMS,
    MOST_TOKENS,
    Phrase,
    Search,
    at_place,
    of_tenant,
    of_topic,
    phrases,
    tokens_of,
)

PUNCTUATION = set(map(chr, range(128))) - set("abcdefghijklmnopqrstuvwxyz0123456789")
"""What has a meaning to a full text index, or would be split or folded there once more."""

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.dictionaries(
    texts,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


def finds(query: str, data: Any, **more: Any) -> bool:
    made = event(data=data if isinstance(data, bytes) else json.dumps(data).encode(), **more)
    return Search(phrases=phrases(query)).finds(tokens_of(made))


def holds(root: str, place: str, *values: str, data: bytes = b"{}", metadata: dict[str, str] | None = None) -> bool:
    search = Search(facts=(at_place(root, place, values),))
    return search.finds(tokens_of(event(data=data, metadata=metadata)))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("refund", [Phrase(("refund",))]),
        ("Refund  ORDER", [Phrase(("refund",)), Phrase(("order",))]),
        ('"New York" refund*', [Phrase(("new", "york")), Phrase(("refund",), prefix=True)]),
        ('"new yor"*', [Phrase(("new", "yor"), prefix=True)]),
        ("ada@example.com", [Phrase(("ada", "example", "com"))]),
        ("cus_8123*", [Phrase(("cus", "8123"), prefix=True)]),
        ('"left open', [Phrase(("left", "open"))]),
        ('a"b c"d', [Phrase(("a",)), Phrase(("b", "c")), Phrase(("d",))]),
        ("Käse", [Phrase(("kase",))]),
        ("東京", [Phrase(("東", "京"))]),
        ("サーバー*", [Phrase(("サ", "ー", "バ", "ー"))]),
        ("ก*", [Phrase(("ก",))]),
        ("किता*", [Phrase(("किता",), prefix=True)]),
        (
            "a AND (b OR NOT c) NEAR/2 ^d x:y -z",
            [Phrase(tuple(words.split())) for words in ("a", "and", "b", "or", "not", "c", "near 2", "d", "x y", "z")],
        ),
        ("& refund !", [Phrase(("refund",))]),
    ],
)
def test_what_people_write(query: str, found: list[Phrase]) -> None:
    assert list(phrases(query)) == found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "must have a word in it"),
        ('""', "must have a word in it"),
        ("*** && \x00", "must have a word in it"),
        ("a*", "must have at least 2 letters or digits before a *"),
        (" ".join(["word"] * (MOST_TERMS + 1)), f"must have at most {MOST_TERMS} words and phrases"),
    ],
)
def test_what_cannot_be_searched_for(query: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("*", r"\*")):
        phrases(query)


@pytest.mark.parametrize(
    ("query", "data", "expected"),
    [
        ("refund", {"note": "A refund, please"}, True),
        ("refund", {"note": "refunds"}, False),
        ("refund*", {"note": "refunds"}, True),
        ("refund", {"refund": 1}, False),
        ("refund please", {"a": {"b": ["please"]}, "c": "Refund!"}, True),
        ("refund never", {"note": "refund"}, False),
        ('"new york"', {"city": "New York"}, True),
        ('"new york"', {"city": "york new"}, False),
        ('"york pizza"', {"city": "New York", "food": "Pizza"}, True),
        ('"new yo"*', {"city": "New York"}, True),
        ("cafe", {"name": "Café"}, True),
        ("café", {"name": "CAFE"}, True),
        ("strasse", {"name": "Straße"}, True),
        ("京", {"city": "東京都"}, True),
        ("किताब", {"t": "कुताब"}, False),
        ("किता*", {"t": "एक किताब"}, True),
        ("ไทย", {"t": "ภาษาไทยง่าย"}, True),
        ("ภาษา*", {"t": "ภาษาไทยง่าย"}, True),
        ("サー*", {"t": "新サーバー"}, True),
        ("קפה", {"t": "בית קָפֶה"}, True),
        ("42", {"n": 42}, True),
        ("42", {"n": 42.5}, True),
        ("true", {"ok": True}, False),
        ("x" * 100, {"key": "x" * 100}, True),
        ("x" * 90, {"key": "x" * 100}, False),
        ("x" * 90 + "*", {"key": "x" * 100}, True),
    ],
)
def test_words_of_the_payload(query: str, data: dict[str, Any], expected: bool) -> None:
    assert finds(query, data) is expected


def test_escapes_are_read() -> None:
    assert finds("café", b'{"name": "caf\\u00e9"}')


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("customer.id", "42", True),
        ("customer.id", "42.0", True),
        ("customer.id", "4.2e1", True),
        ("customer.id", "43", False),
        ("customer", "42", False),
        ("text", "42", True),
        ("text", "42.0", False),
        ("price", "29.9", True),
        ("price", "29.90", True),
        ("big", "1e400", True),
        ("long", "123456789012345678901234567890", True),
        ("long", "123456789012345678901234567891", False),
        ("zero", "0", True),
        ("zero", "-0.00", True),
        ("ok", "true", True),
        ("ok", "True", False),
        ("nothing", "null", True),
        ("items.sku", "A-1", True),
        ("items.sku", "a-1", False),
        ("items.sku", "B-2", True),
        ("tags", "gift", True),
        ("a.b", "dotted", True),
        ("", "empty", True),
    ],
)
def test_values_at_places(place: str, value: str, expected: bool) -> None:
    data = b"""{"customer": {"id": 42}, "text": "42", "price": 29.90, "big": 1e400, "zero": 0.0, "ok": true,
        "long": 123456789012345678901234567890, "nothing": null, "items": [{"sku": "A-1"}, {"sku": "B-2"}],
        "tags": [["web"], "gift"], "a.b": "dotted", "": "empty"}"""
    assert holds("data", place, value, data=data) is expected


def test_one_of_several_values_is_enough() -> None:
    assert holds("data", "n", "1", "2", data=b'{"n": 2}')
    assert not holds("data", "n", "1", "3", data=b'{"n": 2}')


def test_metadata_are_another_root() -> None:
    assert holds("metadata", "source", "shop", metadata={"source": "shop"})
    assert not holds("data", "source", "shop", metadata={"source": "shop"})
    assert not holds("metadata", "source", "shop", data=b'{"source": "shop"}')


def test_long_texts_are_found_by_their_words_alone() -> None:
    data = json.dumps({"note": "word " * 100}).encode()
    assert finds("word", data)
    assert not holds("data", "note", "word " * 100, data=data)


def test_tenant_and_topic_are_facts() -> None:
    tokens = tokens_of(event("acme", topic="order.paid"))
    assert Search(facts=((of_tenant("acme"),), (of_topic("order.paid"),))).finds(tokens)
    assert not Search(facts=((of_tenant("zeta"),),)).finds(tokens)


def test_an_event_has_so_many_tokens_and_no_more() -> None:
    tokens = tokens_of(event(data=json.dumps({"words": "a b " * 5_000, "list": list(range(5_000))}).encode()))
    assert (len(tokens.words), len(tokens.facts)) == (MOST_TOKENS, MOST_TOKENS)


def test_data_that_cannot_be_read_is_no_failure() -> None:
    assert tokens_of(event(data=b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")).words == []


def _leaves(value: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, member in value.items() for leaf in _leaves(member, f"{place}.{key}")]
    if isinstance(value, list):
        return [leaf for member in value for leaf in _leaves(member, place)]
    return [(place, value)]


@given(documents)
def test_whatever_is_in_a_payload_is_found(data: dict[str, Any]) -> None:
    tokens = tokens_of(event(data=json.dumps(data).encode()))
    assert not any(set(token) & PUNCTUATION for token in tokens.words)
    for key, member in data.items():
        for place, value in _leaves(member, key):
            text = value if isinstance(value, str) else json.dumps(value)
            assert Search(facts=(at_place("data", place, [text]),)).finds(tokens), (place, text)


@given(texts)
def test_a_text_finds_itself(text: str) -> None:
    try:
        asked = phrases(text.replace('"', " ").replace("*", " "))
    except ValueError:
        return
    assert Search(phrases=asked).finds(tokens_of(event(data=json.dumps({"text": text}).encode())))


@given(texts)
def test_whatever_people_write_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        for phrase in phrases(text):
            assert phrase.words
            assert not any(set(word) & PUNCTUATION for word in phrase.words)


# what is done for one event


def counted(data: bytes) -> tuple[int, int]:
    """How many calls of functions, those in C included, the tokens of such data take; and how many there are."""
    calls = 0

    def count(_frame: object, kind: str, _argument: object) -> None:
        nonlocal calls
        calls += kind in {"call", "c_call"}

    sys.setprofile(count)
    try:
        tokens = tokens_of(event(data=data))
    finally:
        sys.setprofile(None)
    return calls, len(tokens.words) + len(tokens.facts)


@pytest.mark.parametrize(
    "data",
    [
        b'{"l": [' + b",".join([b"1"] * 300_000) + b"]}",
        b'{"l": [' + b",".join([b"[]"] * 300_000) + b"]}",
        b'{"l": [' + b",".join([b"{}"] * 300_000) + b"]}",
        b'{"l": {' + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}}",
        b'{"l": [' + b",".join([b"9" * 4_000] * 200) + b"]}",
        b'{"l": ' + b"9" * 900_000 + b"}",
    ],
)
def test_work_is_bounded(data: bytes) -> None:
    assert counted(data)[0] < 400_000


def test_long_places_cost_no_memory() -> None:
    """Each of 50,000 places would repeat the 100,000 characters above it: 5 GB."""
    below = b",".join(b'"%d":"w%d"' % (number, number) for number in range(50_000))
    data = b'{"first": "f", "' + b"k" * 100_000 + b'": {' + below + b"}}"
    tracemalloc.start()
    try:
        tokens = tokens_of(event(data=data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    assert tokens.words[:2] == ["f", "w0"]
    assert holds("data", "first", "f", data=data)


def test_long_texts_are_looked_through_to_a_point() -> None:
    tokens = tokens_of(
        event(data=json.dumps({"a": "." * 250_000 + " in", "b": "." * 20_000 + " out", "c": "c"}).encode())
    )
    assert "in" in tokens.words
    assert "out" not in tokens.words
    assert Search(facts=(at_place("data", "c", ["c"]),)).finds(tokens)
