"""How long things are kept, for everybody and for each tenant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core import ids
from waypost.core.model import SECOND, Micros
from waypost.core.retention import Kept, Lifetimes, Walk, walks

NOW: Micros = 1_800_000_000 * SECOND

_seconds = st.one_of(st.none(), st.sampled_from([0, 1, 2, 3]))
lifetimes = st.builds(Lifetimes, events=_seconds, attempts=_seconds, data=_seconds)
tenants = st.dictionaries(st.sampled_from(["acme", "zeta", "umbrella"]), lifetimes)


@pytest.mark.parametrize(
    ("own", "default", "holds"),
    [
        (Lifetimes(), Lifetimes(), (0, 0, 0)),
        (Lifetimes(), Lifetimes(events=30), (30, 30, 30)),
        (Lifetimes(), Lifetimes(events=30, attempts=7, data=1), (30, 7, 1)),
        (Lifetimes(events=0), Lifetimes(events=30, attempts=7), (0, 7, 0)),
        (Lifetimes(events=5), Lifetimes(events=30, attempts=7), (5, 5, 5)),
        (Lifetimes(data=0), Lifetimes(events=30, data=1), (30, 30, 30)),
        (Lifetimes(attempts=60), Lifetimes(events=30), (30, 30, 30)),
        (Lifetimes(attempts=60), Lifetimes(), (0, 60, 0)),
    ],
)
def test_own_lifetimes_come_first_and_nothing_outlives_its_event(
    own: Lifetimes, default: Lifetimes, holds: tuple[int, int, int]
) -> None:
    found = own.over(default)
    assert (found.events, found.attempts, found.data) == holds


@given(lifetimes, tenants)
def test_each_tenants_things_are_taken_by_one_walk_when_they_have_had_their_time(
    default: Lifetimes, own: dict[str, Lifetimes]
) -> None:
    all_walks = list(walks(default, own))
    assert len({(walk.kind, walk.seconds) for walk in all_walks}) == len(all_walks)
    for tenant_id in ("acme", "zeta", "umbrella", "somebody"):
        kept = own.get(tenant_id, Lifetimes()).over(default)
        for kind in Kept:
            seconds: int = getattr(kept, kind)
            alone = seconds if kind is Kept.EVENTS or seconds != kept.events else 0
            taken = [walk.seconds for walk in all_walks if walk.kind is kind and walk.takes(tenant_id)]
            assert taken == ([alone] if alone else [])


@given(st.integers(1, 1_000_000), st.integers(0, 2_000_000_000_000))
def test_a_walk_takes_what_is_older_than_its_lifetime(seconds: int, age: int) -> None:
    walk = Walk(kind=Kept.EVENTS, seconds=seconds, tenants=frozenset(), others=True)
    made = ids.compose((NOW - age) // 1_000, 1, 1)
    assert (made < walk.before(NOW)) == (ids.time_of(made) < NOW - seconds * SECOND)
