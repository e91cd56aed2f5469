"""How much of an exchange is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core.keeping import Exchange, Keeping, outline
from waypost.core.model import Outcome

SMALL = Keeping(headers=500, exchange=1_500, delivery=4_000, detail=20)
PART = st.dictionaries(
    st.sampled_from(["url", "body", "headers", "timings", "size", "odd"]),
    st.one_of(
        st.text(max_size=3_000),
        st.integers(),
        st.none(),
        st.dictionaries(st.text(max_size=50), st.text(max_size=800), max_size=60),
        st.lists(st.text(max_size=100), max_size=60),
    ),
)


def outcome(**changes: Any) -> Outcome:
    return Outcome(ok=False, code="500", started_at=0, latency=1, **changes)


def read(text: bytes | None) -> Any:
    return None if text is None else json.loads(text)


@given(PART, PART)
def test_no_exchange_is_longer_than_the_bounds(request: dict[str, Any], response: dict[str, Any]) -> None:
    kept = SMALL.exchange_of(outcome(request=request, response=response))
    for sent, text in ((request, kept.request), (response, kept.response)):
        assert len(text or b"") <= SMALL.exchange + 200  # names, and the mark that something is missing
        shown = read(text)
        assert shown == sent or shown["truncated"] is True
        assert len(json.dumps(shown.get("headers"), ensure_ascii=False).encode()) <= 2 * SMALL.headers + 10


def test_what_is_short_stays_whole_and_what_is_long_is_cut() -> None:
    headers = {f"x-{n}": "v" * 90 for n in range(50)}
    response = {"status_code": 200, "headers": headers, "body": "\x01" * 2_000, "timings": {"total": 5}}
    shown = read(SMALL.exchange_of(outcome(response=response)).response)
    assert (shown["status_code"], shown["timings"], shown["truncated"]) == (200, {"total": 5}, True)
    assert shown["headers"] == dict(list(headers.items())[:5])
    assert set(shown["body"]) == {"\x01"}
    assert list(shown) == [*response, "truncated"]


def test_an_exchange_within_the_bounds_is_kept_as_it_is() -> None:
    whole = {"headers": {"a": "b" * 400}, "body": "c" * 900}
    assert read(SMALL.exchange_of(outcome(request=whole)).request) == whole
    assert SMALL.exchange_of(outcome()) == Exchange(None, None)


def test_an_outline_has_status_and_timings() -> None:
    long = {"status_code": 503, "headers": {"a": "b" * 400}, "body": "c" * 900, "timings": {"total": 5}}
    kept = outline(outcome(request={"method": "POST", "url": "u" * 200, "size": 7}, response=long))
    assert read(kept.response) == {"status_code": 503, "timings": {"total": 5}, "truncated": True}
    assert read(kept.request) == {"method": "POST", "size": 7, "truncated": True}


@pytest.mark.parametrize("last", [False, True])
def test_room_ends_where_the_delivery_has_kept_enough(last: bool) -> None:
    assert SMALL.room(0, last=last) == (7_000 if last else 4_000)
    assert SMALL.room(8_000, last=last) < 0


def test_a_receivers_words_are_of_bounded_length() -> None:
    told = outcome(detail="no " * 100)
    bounded = SMALL.bounded(told)
    assert bounded.detail == "no no no no no no n\u2026"
    assert SMALL.bounded(outcome(detail="no")) == outcome(detail="no")
    crafted = Outcome(ok=False, code="E" * 900, started_at=0, latency=1)
    assert SMALL.bounded(crafted).code == "E" * 64
