"""What is dropped as a repetition has to be one."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.destinations.messages import message
from waypost.connect.once import delivery_id

numbers = st.integers(1, 1 << 63)
tries = st.tuples(numbers, numbers, st.integers(1, 1000), st.booleans())


def id_of(destination_no: int, event_seq: int, attempt: int, manual: bool) -> str:
    plain = message()
    event = structs.replace(plain.event, seq=event_seq)
    return delivery_id(destination_no, structs.replace(plain, event=event, attempt=attempt, manual=manual))


@given(tries, tries)
def test_two_tries_have_one_id_if_they_are_of_one_delivery(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    same = one[:2] == other[:2] and one[3] == other[3] and (one[2] == other[2] or not one[3])
    assert (id_of(*one) == id_of(*other)) is same  # type: ignore[arg-type]


@given(tries)
def test_every_service_takes_the_id(one: tuple[int, ...]) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,64}", id_of(*one))  # type: ignore[arg-type]


def test_each_further_try_repeats_and_each_by_hand_does_not() -> None:
    assert len({id_of(1, 7, attempt, False) for attempt in (1, 2, 3)}) == 1
    assert len({id_of(1, 7, attempt, True) for attempt in (1, 2, 3)}) == 3
