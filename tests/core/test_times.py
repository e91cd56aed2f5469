"""Instants as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core import times

NEW_YEAR = 1_704_067_200_000_000


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-01T00:00:00Z", NEW_YEAR),
        ("2024-01-01t00:00:00z", NEW_YEAR),
        ("2024-01-01 00:00:00Z", NEW_YEAR),
        ("2024-01-01T02:00:00+02:00", NEW_YEAR),
        ("2023-12-31T18:30:00-05:30", NEW_YEAR),
        ("2024-01-01T00:00:00.5Z", NEW_YEAR + 500_000),
        ("2024-01-01T00:00:00.123456789Z", NEW_YEAR + 123_456),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_an_rfc_3339_text_is_an_instant(text: str, instant: int) -> None:
    assert times.parse(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "20240101T000000Z",
        "2024-W01-1T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00+25:00",
        "\u0662024-01-01T00:00:00Z",
        " 2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z\n",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert times.parse(text) is None


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "0000-01-01T00:00:00Z"])
def test_an_instant_outside_the_calendar_is_none(text: str) -> None:
    assert times.parse(text) is None


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"])
def test_the_ends_of_the_calendar_come_back(text: str) -> None:
    instant = times.parse(text)
    assert instant is not None
    assert times.render(instant) == text


def test_a_date_is_its_midnight() -> None:
    assert times.parse_date("2024-01-01") == NEW_YEAR
    assert times.parse_date("2024-02-30") is None
    assert times.parse_date("2024-1-1") is None


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001
def test_what_is_rendered_parses_to_the_same(moment: datetime) -> None:
    instant = round(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)
    assert times.parse(times.render(instant)) == instant
