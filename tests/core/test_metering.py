"""Buckets, the cover of a range by tiers, and measures. What they add up to is tested through the API."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core import times
from waypost.core.metering import (
    ATTEMPTS,
    EVENTS,
    HOUR,
    MINUTE,
    TIERS,
    Count,
    Granularity,
    Point,
    Question,
    Sums,
    cover,
    edges,
    granularity,
    points,
)
from waypost.core.model import DAY, SECOND, Micros

MOST = {"s": 60, "m": 60, "h": 24, "d": 31, "w": 4, "M": 12}
NEVER = dict.fromkeys(TIERS, 1 << 62)
ALWAYS = dict.fromkeys(TIERS, 0)

granularities = st.sampled_from([Granularity(number, unit) for unit, most in MOST.items() for number in (1, 2, most)])
instants = st.integers(0, times.LAST)


def at(text: str) -> Micros:
    found = times.parse(text) if "T" in text else times.parse_date(text)
    assert found is not None
    return found


def question(start: str, end: str, by: str | None = None, **more: object) -> Question:
    chosen = None if by is None else granularity(by)
    found = edges(at(start), at(end), chosen, most=1_000)
    assert found is not None
    asked = {"subject": ATTEMPTS, "measures": ("count",)} | more
    return Question(start=at(start), end=at(end), granularity=chosen, edges=found, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", MOST)
def test_granularities_have_bounds(unit: str) -> None:
    assert granularity(f"1{unit}") == Granularity(1, unit)
    assert granularity(f"{MOST[unit]}{unit}") == Granularity(MOST[unit], unit)
    assert granularity(f"{MOST[unit] + 1}{unit}") is None
    assert granularity(f"0{unit}") is None


@pytest.mark.parametrize("text", ["", "h", "1", "1H", "-1h", "1.5h", "1h ", "1 h", "1hh", "\u0661h", "0001h"])
def test_what_is_no_granularity(text: str) -> None:
    assert granularity(text) is None


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("1h", ["2024-03-05T10:00:00Z", "2024-03-05T11:00:00Z"]),
        ("20m", ["2024-03-05T10:20:00Z", "2024-03-05T10:40:00Z"]),
        ("30s", ["2024-03-05T10:37:30Z", "2024-03-05T10:38:00Z"]),
        ("1d", ["2024-03-05", "2024-03-06"]),
        ("2d", ["2024-03-04", "2024-03-06"]),
        ("1w", ["2024-03-03", "2024-03-10"]),
        ("2w", ["2024-03-03", "2024-03-17"]),
        ("1M", ["2024-03-01", "2024-04-01"]),
        ("2M", ["2024-03-01", "2024-05-01"]),
        ("3M", ["2024-01-01", "2024-04-01"]),
        ("12M", ["2024-01-01", "2025-01-01"]),
    ],
)
def test_buckets_are_aligned(by: str, expected: list[str]) -> None:
    start = at("2024-03-05T10:37:45Z")
    assert edges(start, start + SECOND, granularity(by), most=10) == [at(text) for text in expected]


def test_days_are_aligned_to_1970_whatever_their_number() -> None:
    found = edges(at("2024-03-05"), at("2024-03-20"), Granularity(5, "d"), most=10)
    assert found is not None
    assert all(edge % (5 * DAY) == 0 for edge in found)


def test_the_last_months_that_can_be_written() -> None:
    start = at("9999-12-30T00:00:00Z")
    found = edges(start, times.LAST, Granularity(5, "M"), most=10)
    assert found is not None
    assert times.render(found[0]) == "9999-08-01T00:00:00Z"
    assert found[1] - found[0] == (31 + 30 + 31 + 30 + 31) * DAY


def test_too_many_buckets_are_not_made() -> None:
    assert edges(0, 10 * HOUR, Granularity(1, "h"), most=9) is None
    assert edges(0, 10 * HOUR, Granularity(1, "h"), most=10) == [hour * HOUR for hour in range(11)]
    assert edges(0, times.LAST, Granularity(1, "s"), most=100_000) is None


def test_without_a_granularity_the_range_is_the_bucket() -> None:
    assert edges(7, 9, None, most=1) == [7, 9]


@given(instants, st.integers(1, 50 * DAY), granularities)
def test_buckets_cover_the_range_without_a_gap(start: Micros, length: int, by: Granularity) -> None:
    found = edges(start, start + length, by, most=1_000)
    if found is None:
        assert length > 999 * by.step
        return
    assert found[0] <= start < found[1]
    assert found[-2] < start + length <= found[-1]
    assert all((after - before) % by.step == 0 for before, after in itertools.pairwise(found))
    again = edges(found[0], found[-1], by, most=1_000)
    assert again == found


@given(
    instants,
    st.integers(1, 50 * DAY),
    st.one_of(st.none(), granularities),
    st.fixed_dictionaries(dict.fromkeys(TIERS, instants)),
)
def test_a_cover_is_the_range_in_aligned_pieces(
    start: Micros, length: int, by: Granularity | None, since: dict[Micros, Micros]
) -> None:
    step = None if by is None else by.step
    for complete_since in (since, ALWAYS, NEVER):
        pieces = cover(start, start + length, step, complete_since)
        assert pieces[0].start == start
        assert pieces[-1].end == start + length
        assert all(before.end == after.start for before, after in itertools.pairwise(pieces))
        for width, begins, ends in pieces:
            assert begins < ends
            if width:
                assert begins % width == ends % width == 0
                assert begins >= complete_since[width]
                assert step is None or step % width == 0


@given(instants, st.integers(1, 50 * DAY))
def test_with_all_tiers_only_the_ends_are_read_one_by_one(start: Micros, length: int) -> None:
    pieces = cover(start, start + length, None, ALWAYS)
    assert sum(end - begin for width, begin, end in pieces if not width) <= 2 * MINUTE
    assert len(pieces) <= 7


def test_every_measure() -> None:
    sums = Sums(total=8, ok=6, first=5, retries=2, manual=1, numbers=12)
    asked = question("2024-01-01", "2024-01-01T00:00:04Z", measures=ATTEMPTS.measures)
    ((made,), truncated) = points(asked, [Count(0, (), sums)], most=10)
    assert not truncated
    assert dict(zip(ATTEMPTS.measures, made.measures, strict=True)) == {
        "count": 8,
        "successful_count": 6,
        "failed_count": 2,
        "error_rate": 0.25,
        "first_attempt_count": 5,
        "retry_count": 2,
        "manual_retry_count": 1,
        "avg_attempt_number": 1.5,
        "rate": 2.0,
        "successful_rate": 1.5,
        "failed_rate": 0.5,
    }
    assert set(EVENTS.measures) < set(ATTEMPTS.measures)


def test_every_combination_has_every_bucket() -> None:
    asked = question("2024-01-01", "2024-01-01T02:00:00Z", "1h", dimensions=("topic",))
    counts = [Count(1, ("a",), Sums(3)), Count(0, ("b",), Sums(1))]
    made, _ = points(asked, counts, most=10)
    assert made == [Point(0, ("a",), (0,)), Point(1, ("a",), (3,)), Point(0, ("b",), (1,)), Point(1, ("b",), (0,))]
    assert points(asked, [], most=10) == ([], False)
    assert points(asked, counts, most=4) == (made, False)
    assert points(asked, counts, most=3) == (made[:3], True)


def test_nothing_is_zeros_only_where_buckets_were_asked_for() -> None:
    assert points(question("2024-01-01", "2024-01-02", "12h"), [], most=10)[0] == [
        Point(0, (), (0,)),
        Point(1, (), (0,)),
    ]
    assert points(question("2024-01-01", "2024-01-02"), [], most=10)[0] == []


def test_days_add_up_to_months_of_their_own_length() -> None:
    asked = question("2024-02-10", "2024-03-02", "1M", measures=("count", "rate"))
    assert asked.steps == 30  # from the first of February on
    counts = [Count(day, (), Sums(total=29 if day < 29 else 31)) for day in range(9, 30)]
    made, _ = points(asked, counts, most=10)
    assert made == [
        Point(0, (), (20 * 29, 20 * 29 / (29 * 86_400))),
        Point(1, (), (31, 31 / (31 * 86_400))),
    ]
