from __future__ import annotations

from waypost.connect.headers import HeaderNames


def test_names_are_prefixed_and_lower_case() -> None:
    assert HeaderNames("X-Meta-").of({"event-id": "1", "Trace Id": "2", "ünï": "3"}) == {
        "x-meta-event-id": "1",
        "x-meta-trace-id": "2",
        "x-meta--n-": "3",
    }


def test_of_keys_that_come_to_the_same_name_the_first_has_it() -> None:
    assert HeaderNames("x-").of({"a b": "first", "a_b": "other", "A B": "second"}) == {
        "x-a-b": "first",
        "x-a_b": "other",
    }


def test_many_keys_do_not_pile_up() -> None:
    names = HeaderNames("x-")
    for n in range(2_500):
        assert names.of({f"key-{n}": "v"}) == {f"x-key-{n}": "v"}
    assert len(names._names) <= 1_000
