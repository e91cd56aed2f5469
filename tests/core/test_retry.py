from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core.retry import RetryOverrides, RetryPolicy

policies = st.builds(
    RetryPolicy,
    limit=st.integers(0, 50),
    base_seconds=st.floats(0.001, 1000),
    factor=st.floats(1, 100),
    max_wait_seconds=st.floats(0.001, 1e6),
    jitter=st.floats(0, 1),
)
dice = st.floats(0, 1, exclude_max=True)


@given(policies, dice)
def test_waits_grow_up_to_the_maximum_and_end_at_the_limit(policy: RetryPolicy, jitter: float) -> None:
    waits = [policy.wait(spent, jitter=jitter) for spent in range(policy.limit + 3)]
    planned = [wait for wait in waits if wait is not None]
    assert len(planned) == policy.limit
    assert planned == sorted(planned)
    assert all(0 < wait <= policy.max_wait_seconds for wait in planned)


@given(policies, dice, st.integers(0, 49), st.floats(0, 1e9))
def test_retry_after_lengthens_a_wait_up_to_the_maximum(
    policy: RetryPolicy, jitter: float, spent: int, asked: float
) -> None:
    plain = policy.wait(spent, jitter=jitter)
    wait = policy.wait(spent, jitter=jitter, retry_after=asked)
    if plain is None:
        assert wait is None
    else:
        assert wait is not None
        assert plain <= wait <= policy.max_wait_seconds
        assert wait >= min(asked, policy.max_wait_seconds)


@given(policies, st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20), dice)
def test_a_schedule_is_followed_to_the_letter(policy: RetryPolicy, schedule: list[float], jitter: float) -> None:
    scheduled = policy.overridden(RetryOverrides(schedule=tuple(schedule), jitter=0.0))
    assert [scheduled.wait(spent, jitter=jitter) for spent in range(len(schedule))] == schedule
    assert scheduled.wait(len(schedule), jitter=jitter) is None


@given(policies, dice)
def test_jitter_only_adds_its_share(policy: RetryPolicy, jitter: float) -> None:
    steady, spread = policy.wait(0, jitter=0.0), policy.wait(0, jitter=jitter)
    if steady is not None and spread is not None:
        assert steady <= spread <= steady * (1 + policy.jitter)


def test_jitter_is_added_to_what_a_destination_asks_for() -> None:
    policy = RetryPolicy(jitter=0.1, max_wait_seconds=5_000)
    asked = [policy.wait(0, jitter=dice, retry_after=1_000.0) for dice in (0.0, 0.5, 0.9)]
    assert asked == [1_000.0, pytest.approx(1_050.0), pytest.approx(1_090.0)]
    assert policy.wait(0, jitter=0.9, retry_after=9_000.0) == 5_000.0


def test_defaults_are_outposts() -> None:
    policy = RetryPolicy(jitter=0)
    waits = [policy.wait(spent, jitter=0.5) for spent in range(11)]
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0, 15360.0, None]


def test_a_huge_exponent_is_the_maximum_not_an_error() -> None:
    assert RetryPolicy(limit=10_000, max_wait_seconds=60).wait(9_999, jitter=0) == 60


@pytest.mark.parametrize(
    ("policy", "code", "retryable", "expected"),
    [
        (RetryPolicy(), "503", True, True),
        (RetryPolicy(), "404", False, False),
        (RetryPolicy(retry_on="any"), "404", False, True),
        (RetryPolicy(retry_codes=("404",)), "404", False, True),
        (RetryPolicy(retry_codes=("404",)), "405", False, False),
        (RetryPolicy(retry_codes=("4xx",)), "410", False, True),
        (RetryPolicy(retry_codes=("4xx",)), "510", False, False),
        (RetryPolicy(retry_codes=("4xx",)), "4", False, False),
        (RetryPolicy(retry_codes=("4xx",)), "4abc", False, False),
        (RetryPolicy(no_retry_codes=("timeout",)), "timeout", True, False),
        (RetryPolicy(no_retry_codes=("5xx",), retry_codes=("503",)), "503", True, False),
        (RetryPolicy(no_retry_codes=("410",), retry_on="any"), "410", False, False),
    ],
)
def test_what_is_worth_a_retry(policy: RetryPolicy, code: str, retryable: bool, expected: bool) -> None:
    assert policy.worth_a_retry(code, retryable=retryable) is expected


def test_overrides_replace_what_they_name() -> None:
    policy = RetryPolicy(schedule=(1.0, 2.0))
    assert policy.overridden(None) is policy
    assert policy.overridden(RetryOverrides(jitter=0.5)) == RetryPolicy(schedule=(1.0, 2.0), jitter=0.5)
    assert policy.overridden(RetryOverrides(limit=3)) == RetryPolicy(limit=3)
    assert policy.overridden(RetryOverrides(limit=3, schedule=(9.0,))).retries == 1
    assert policy.overridden(RetryOverrides(retry_codes=("404",))).worth_a_retry("404", retryable=False)
