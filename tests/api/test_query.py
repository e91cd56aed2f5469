"""Query parameters, as values."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.api.query import MOST_VALUES, Query
from waypost.core import times
from waypost.core.errors import BadRequest, Invalid
from waypost.store.base import TimeRange


def query(text: str) -> Query:
    return Query(parse_qsl(text, keep_blank_values=True))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        ("k=a", ("a",)),
        ("k=a&k=b", ("a", "b")),
        ("k[]=a&k[]=b", ("a", "b")),
        ("k[0]=a&k[1]=b", ("a", "b")),
        ("k[10]=c&k[1]=b&k[0]=a", ("a", "b", "c")),
        ("k[0]=a&k[]=b&k=c", ("a",)),
        ("k[]=b&k=c", ("b",)),
        ("k=a,b", ("a,b",)),
        ("k=", ()),
        ("k=&k=a", ("a",)),
        ("kk[0]=a&k[x]=b&k[-1]=c", ()),
        ("k%5B0%5D=a", ("a",)),
    ],
)
def test_arrays_in_every_spelling(text: str, values: tuple[str, ...]) -> None:
    assert query(text).many("k") == values


@given(st.lists(st.text(min_size=1, max_size=5), max_size=20))
def test_every_spelling_says_the_same(values: list[str]) -> None:
    spellings = (
        [(f"k[{index}]", value) for index, value in enumerate(values)],
        [("k[]", value) for value in values],
        [("k", value) for value in values],
    )
    for pairs in spellings:
        assert query(urlencode(pairs)).many("k") == tuple(values)


def test_an_array_has_a_bound() -> None:
    assert len(query("&".join(["k=a"] * MOST_VALUES)).many("k")) == MOST_VALUES
    with pytest.raises(Invalid) as refused:
        query("&".join(["k=a"] * (MOST_VALUES + 1))).many("k")
    assert refused.value.data == {"query.k": "must have at most 500 values"}


def test_one_value_is_one_value() -> None:
    assert query("k=a").one("k") == "a"
    assert query("k=").one("k") is None
    with pytest.raises(Invalid) as refused:
        query("k=a&k=b").one("k")
    assert refused.value.data == {"query.k": "must be given once"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["a"], "must be 'a'"), (["a", "b"], "must be 'a' or 'b'"), (["a", "b", "c"], "must be 'a', 'b' or 'c'")],
)
def test_a_choice_is_one_of_its_options(options: list[str], sentence: str) -> None:
    assert query("k=a").choice("k", options) == "a"
    assert query("").choice("k", options) is None
    with pytest.raises(Invalid) as refused:
        query("k=x").choice("k", options)
    assert refused.value.data == {"query.k": sentence}
    with pytest.raises(Invalid):
        query("k=a&k=x").choices("k", options)


@pytest.mark.parametrize("text", ["k=0", "k=6", "k=-1", "k=x", "k=1.0", "k=+1", "k=٣", "k=1&k=2", "k=" + "9" * 5000])
def test_a_number_has_bounds(text: str) -> None:
    assert query("k=5").whole("k", default=2, most=5) == 5
    assert query("").whole("k", default=2, most=5) == 2
    with pytest.raises(BadRequest, match="k must be a whole number from 1 to 5"):
        query(text).whole("k", default=2, most=5)


def at(text: str) -> int:
    instant = times.parse(text)
    assert instant is not None
    return instant


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("", {}),
        ("t[gte]=2024-01-01T00:00:00Z", {"gte": at("2024-01-01T00:00:00Z")}),
        ("t[lt]=2024-01-02&t[gt]=2024-01-01", {"lt": at("2024-01-02T00:00:00Z"), "gt": at("2024-01-01T00:00:00Z")}),
        ("t[lte]=2024-01-01T01:00:00%2B01:00", {"lte": at("2024-01-01T00:00:00Z")}),
        ("t[lte]=2024-01-01T01:00:00+01:00", {"lte": at("2024-01-01T00:00:00Z")}),
        ("t[gte]=", {}),
        ("tt[gte]=x&time[gte]=x", {}),
    ],
)
def test_time_ranges(text: str, bounds: dict[str, Any]) -> None:
    assert query(text).time("t") == TimeRange(**bounds)


@pytest.mark.parametrize(
    "text", ["t=2024-01-01", "t[]=2024-01-01", "t[eq]=2024-01-01", "t[gte]x=2024-01-01", "t[gte=2024-01-01"]
)
def test_an_unknown_operator_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"use t\[gte\], t\[lte\], t\[gt\], t\[lt\]"):
        query(text).time("t")


@pytest.mark.parametrize("value", ["now", "2024-02-30", "2024-01-01T00:00:00", "1704067200"])
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match=r"t\[gte\] must be an RFC 3339 date-time"):
        query(f"t[gte]={value}").time("t")
