from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core import ids
from waypost.core.model import SECOND
from waypost.flow.clock import Sequence

NOW = 1_800_000_000 * SECOND
numbers = st.integers(0, (1 << 63) - 1)


@given(numbers)
def test_a_public_id_is_the_number(seq: int) -> None:
    assert ids.decode("evt", ids.encode("evt", seq)) == seq


@given(numbers, numbers)
def test_public_ids_sort_as_the_numbers_do(one: int, other: int) -> None:
    assert (ids.encode("atm", one) < ids.encode("atm", other)) == (one < other)


@given(numbers, st.integers(1, (1 << 63) - 1))
def test_a_public_id_of_two_numbers(seq: int, no: int) -> None:
    made = ids.encode_pair("dlv", seq, no)
    assert made.startswith(ids.encode("dlv", seq))
    assert ids.decode_pair("dlv", made) == (seq, no)


_LETTERS = "0000000000000"


@pytest.mark.parametrize(
    "bad",
    ["", "dlv_", f"dlv_{_LETTERS}", f"atm_{_LETTERS}1", f"dlv_{_LETTERS}10i", f"dlv_{_LETTERS}0", f"dlv_{_LETTERS}1 "],
)
def test_what_is_no_id_of_two_numbers(bad: str) -> None:
    assert ids.decode_pair("dlv", bad) is None


def test_a_second_number_has_its_bounds() -> None:
    assert ids.decode_pair("dlv", f"dlv_{_LETTERS}{'z' * 13}") is None
    assert ids.decode_pair("dlv", f"dlv_{_LETTERS}{'1' * 14}") is None


@pytest.mark.parametrize(
    "bad", ["", "evt_", "evt", "atm_0000000000000", "evt_000000000000", "evt_zzzzzzzzzzzzz", "evt_000000000000i"]
)
def test_what_is_no_id(bad: str) -> None:
    assert ids.decode("evt", bad) is None


@given(st.integers(NOW // 1000, NOW // 1000 * 2), st.integers(0, ids.NODES - 1), st.integers(0, ids.COUNTS - 1))
def test_a_number_tells_its_time(milliseconds: int, node: int, counter: int) -> None:
    seq = ids.compose(milliseconds, node, counter)
    instant = milliseconds * 1000
    assert ids.time_of(seq) == instant
    assert ids.bound(instant) <= seq < ids.bound(instant + 1)


def test_a_sequence_grows_even_when_the_clock_does_not() -> None:
    times = iter([NOW, NOW, NOW - SECOND, *[NOW] * 10_000, NOW + SECOND])
    sequence = Sequence(node=3, clock=lambda: next(times))
    made = [sequence.next() for _ in range(10_004)]
    assert made == sorted(set(made))
