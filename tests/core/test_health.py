"""What attempts mean for a destination, against slow models that look at all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from tests.store.builders import NOW
from waypost.core import health as healths
from waypost.core.alerts import DEFAULT_SEVERITY, Audience, Kind, Raised, Rule, Thresholds, Watched
from waypost.core.health import WELL, Health, Observation, Sighting
from waypost.core.model import DAY, SECOND, Disabling, Micros

BY_HAND = Disabling(reason="manual", by="api_key:ops")


def rule(kind: Kind, rule_id: str | None = None, **thresholds: Any) -> Rule:
    severity = DEFAULT_SEVERITY[kind]
    return Rule(no=0, id=rule_id or kind.value, kind=kind, thresholds=Thresholds(**thresholds), severity=severity)


def watched(*rules: Rule, audience: Audience = Audience.BOTH) -> list[Watched]:
    return [Watched(one, audience) for one in rules]


RECOVERED = rule(Kind.RECOVERED)
DISABLED = rule(Kind.DESTINATION_DISABLED)
STEPS = rule(Kind.CONSECUTIVE_FAILURES, count=20, steps=(50, 70, 90, 100))


def failed(at: Micros = NOW, **changes: Any) -> Sighting:
    plain = Sighting(ok=False, code="503", at=at, manual=False, exhausted=False, detail="it answered 503")
    return structs.replace(plain, **changes)


def passed(at: Micros = NOW, **changes: Any) -> Sighting:
    return structs.replace(Sighting(ok=True, code="200", at=at, manual=False, exhausted=False), **changes)


class Watching:
    """One destination over time. `record` is every attempt that there was: (when, whether it succeeded)."""

    def __init__(self, *rules: Rule, audience: Audience = Audience.BOTH) -> None:
        self.watched = watched(*rules, audience=audience)
        self.health = WELL
        self.disabled: Disabling | None = None
        self.raised: list[Raised] = []
        self.record: list[tuple[Micros, bool]] = []

    def see(self, sighting: Sighting) -> Observation:
        if not (sighting.ok or sighting.manual or self.disabled):
            self._seed(sighting.at)
        seen = healths.observe(self.health, sighting, self.watched, self.disabled)
        self.health = msgspec.json.decode(msgspec.json.encode(seen.health), type=Health)
        assert self.health == seen.health
        self.disabled = seen.disabling or (None if seen.enable else self.disabled)
        self.raised += seen.raised
        self.record.append((sighting.at, sighting.ok))
        return seen

    def _seed(self, now: Micros) -> None:
        for one in healths.uncounted(self.health, self.watched):
            width, counts = healths.bucket_width(one), dict[int, int]()
            for at, ok in self.record:
                if ok and at >= now - window_of(one):
                    counts[at // width] = counts.get(at // width, 0) + 1
            self.health = healths.seeded(self.health, one, sorted(counts.items()))

    def all(self, sightings: Iterable[Sighting]) -> list[Raised]:
        """What is raised by these."""
        before = len(self.raised)
        for sighting in sightings:
            self.see(sighting)
        return self.raised[before:]

    def kinds(self, sightings: Iterable[Sighting]) -> list[Kind]:
        return [one.kind for one in self.all(sightings)]


def window_of(of: Rule) -> Micros:
    return round((of.thresholds.window_seconds or 0) * SECOND)


# consecutive failures


def test_each_step_is_told_once() -> None:
    found = Watching(STEPS).all(failed() for _ in range(40))
    numbers = [(one.data["current"], one.data["max"], one.data["threshold"]) for one in found]
    assert numbers == [(10, 20, 50), (14, 20, 70), (18, 20, 90), (20, 20, 100)]
    assert {one.data["failing_since"] for one in found} == {NOW}


@given(
    st.integers(1, 30),
    st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted),
    st.lists(st.booleans() | st.none(), max_size=80),
)
def test_steps_follow_the_streak(count: int, steps: list[int], outcomes: list[bool | None]) -> None:
    """None stands for a manual attempt that fails: it says nothing."""
    watching = Watching(rule(Kind.CONSECUTIVE_FAILURES, count=count, steps=tuple(steps)))
    streak, told = 0, 0
    for ok in outcomes:
        found = watching.all([passed() if ok else failed(manual=ok is None)])
        if ok is not None:
            streak, told = (0, 0) if ok else (streak + 1, told)
        reached = max([step for step in steps if 100 * streak >= step * count], default=0)
        expected = [reached] if reached > told else []
        told = max(told, reached)
        assert [one.data["threshold"] for one in found] == expected
        assert watching.health.streak == streak
        assert (watching.health.failing_since is None) is (streak == 0)


def test_a_manual_success_ends_a_streak() -> None:
    watching = Watching(STEPS)
    watching.all(failed() for _ in range(19))
    watching.see(passed(manual=True))
    assert watching.health.streak == 0
    assert watching.all(failed() for _ in range(9)) == []


def test_two_owners_have_steps_of_their_own() -> None:
    strict = rule(Kind.CONSECUTIVE_FAILURES, "strict", count=2, steps=(100,))
    watching = Watching()
    watching.watched = [Watched(STEPS, Audience.OPERATOR), Watched(strict, Audience.TENANT)]
    found = watching.all(failed() for _ in range(10))
    assert [(one.audience, one.data["current"]) for one in found] == [(Audience.TENANT, 2), (Audience.OPERATOR, 10)]


# failure rate


class Model(Struct):
    """A failure rate, looked up among all attempts that were ever counted."""

    rule: Rule
    counted: list[tuple[Micros, bool]] = []
    standing: bool = False

    def see(self, at: Micros, *, ok: bool) -> bool:
        """Whether an alert is raised."""
        self.counted.append((at, ok))
        limits, width = self.rule.thresholds, healths.bucket_width(self.rule)
        first = at // width - window_of(self.rule) // width + 1
        inside = [good for when, good in self.counted if when // width >= first]
        share, limit = 100 * inside.count(False) / len(inside), limits.percent or 0
        before, over = self.standing, not ok and share >= limit and len(inside) >= (limits.min_count or 0)
        self.standing = (share > limit / 2 if before else over) and not all(inside)
        return self.standing and not before


windows = st.sampled_from([1.0, 1.5, 5.0, 20.0, 60.0, 61.0, 600.0])
rates = st.builds(
    lambda percent, least, window: rule(Kind.FAILURE_RATE, percent=percent, min_count=least, window_seconds=window),
    st.sampled_from([1.0, 20.0, 33.3, 50.0, 100.0]),
    st.integers(1, 8),
    windows,
)
attempts = st.lists(st.tuples(st.sampled_from([0, 1, SECOND // 2, SECOND, 3 * SECOND, 40 * SECOND]), st.booleans()))


@given(rates, attempts)
def test_a_rate_counts_what_a_slow_model_counts(of: Rule, drawn: list[tuple[Micros, bool]]) -> None:
    watching, model, now = Watching(of), Model(of, []), NOW
    for step, ok in drawn:
        now += step
        found = watching.all([passed(now) if ok else failed(now)])
        assert bool(found) is model.see(now, ok=ok)
        told = watching.health.told.get(of.id)
        assert (told is not None and told.standing) is model.standing
        assert told is None or len(told.buckets) <= 20


def test_a_rate_says_what_it_found() -> None:
    of = rule(Kind.FAILURE_RATE, percent=30, min_count=5, window_seconds=600)
    watching = Watching(of, RECOVERED)
    assert watching.kinds([passed(), passed(), failed(), failed()]) == []
    assert watching.kinds([passed()]) == []  # enough attempts now, but it takes a failure to begin
    (found,) = watching.all([failed()])
    assert found.data == {
        "failed": 3,
        "attempts": 6,
        "percent": 50.0,
        "threshold": 30,
        "window_seconds": 600,
        "failing_since": NOW,
    }
    assert watching.all([failed()]) == []


def test_a_rate_stands_until_it_has_fallen_to_half_the_limit() -> None:
    watching = Watching(rule(Kind.FAILURE_RATE, percent=50, min_count=2, window_seconds=600), RECOVERED)
    assert watching.kinds([passed(), failed()]) == [Kind.FAILURE_RATE]
    assert watching.kinds([passed(), failed(), passed(), failed()]) == []
    assert watching.kinds(passed() for _ in range(5)) == []
    assert watching.kinds([passed()]) == [Kind.RECOVERED]
    assert watching.kinds([failed()] * 6) == [Kind.FAILURE_RATE]


def test_what_went_before_the_first_failure_counts() -> None:
    watching = Watching(rule(Kind.FAILURE_RATE, percent=50, min_count=2, window_seconds=600))
    watching.all(passed(NOW + index) for index in range(9))
    assert watching.health == WELL
    assert watching.kinds(failed(NOW + 10) for _ in range(8)) == []
    assert watching.kinds([failed(NOW + 10)]) == [Kind.FAILURE_RATE]


@pytest.mark.parametrize(("before", "after"), [(60.0, 86_400.0), (86_400.0, 60.0), (60.0, 61.0)])
def test_a_rule_that_was_given_another_window_begins_anew(before: float, after: float) -> None:
    """Buckets of another width have other numbers: they would count for ever, or not at all."""
    watching = Watching(rule(Kind.FAILURE_RATE, percent=50, min_count=3, window_seconds=before))
    watching.all([failed(), failed()])
    watching.watched = watched(rule(Kind.FAILURE_RATE, percent=50, min_count=3, window_seconds=after))
    later = NOW + 30 * DAY
    assert watching.kinds([failed(later), failed(later)]) == []
    assert watching.kinds([failed(later)]) == [Kind.FAILURE_RATE]


# deliveries that were given up


@given(st.lists(st.tuples(st.integers(0, 100 * SECOND), st.booleans()), max_size=40))
def test_given_up_deliveries_are_told_once_in_a_window(drawn: list[tuple[Micros, bool]]) -> None:
    watching = Watching(rule(Kind.EXHAUSTED_RETRIES, window_seconds=120.0))
    now, quiet_until = NOW, 0
    for step, exhausted in drawn:
        now += step
        found = watching.kinds([failed(now, exhausted=exhausted)])
        expected = exhausted and now >= quiet_until
        assert found == ([Kind.EXHAUSTED_RETRIES] if expected else [])
        quiet_until = now + 120 * SECOND if expected else quiet_until


def test_a_success_does_not_shorten_the_silence() -> None:
    watching = Watching(rule(Kind.EXHAUSTED_RETRIES, window_seconds=120.0))
    assert watching.kinds([failed(exhausted=True)]) == [Kind.EXHAUSTED_RETRIES]
    assert watching.kinds([passed(), failed(exhausted=True)]) == []


# recovery


@pytest.mark.parametrize("audience", list(Audience))
def test_who_heard_of_trouble_hears_of_its_end_once(audience: Audience) -> None:
    watching = Watching(STEPS, RECOVERED, audience=audience)
    assert watching.kinds([passed(), *(failed(NOW + SECOND) for _ in range(9)), passed()]) == []
    watching.all(failed(NOW + 2 * SECOND) for _ in range(20))
    (found,) = watching.all([passed(), passed(), passed()])
    assert (found.kind, found.severity, found.audience) == (Kind.RECOVERED, "info", audience)
    assert found.relieves == "warning"
    assert found.data == {"failing_since": NOW + 2 * SECOND}
    assert watching.kinds(failed() for _ in range(10)) == [Kind.CONSECUTIVE_FAILURES]


@pytest.mark.parametrize("heard", [Audience.OPERATOR, Audience.TENANT])
def test_who_heard_of_no_trouble_hears_of_no_end(heard: Audience) -> None:
    watching = Watching()
    watching.watched = [Watched(STEPS, heard), Watched(RECOVERED, Audience.BOTH)]
    watching.all(failed() for _ in range(20))
    assert [one.audience for one in watching.all([passed()])] == [heard]


def test_the_end_is_as_important_as_the_worst_that_was_heard() -> None:
    gone = rule(Kind.AUTO_DISABLE, codes=("410",))
    watching = Watching(STEPS, DISABLED, gone, RECOVERED)
    watching.all([*(failed() for _ in range(10)), failed(code="410")])
    assert [one.relieves for one in watching.all([passed()])] == ["critical"]


def test_owners_are_relieved_of_what_they_heard() -> None:
    watching = Watching()
    watching.watched = [
        Watched(STEPS, Audience.TENANT),
        Watched(DISABLED, Audience.OPERATOR),
        Watched(rule(Kind.AUTO_DISABLE, count=20), Audience.OPERATOR),
        Watched(RECOVERED, Audience.OPERATOR),
        Watched(structs.replace(RECOVERED, id="mine", owner="acme"), Audience.TENANT),
    ]
    watching.all(failed() for _ in range(20))
    found = [(one.rule.id, one.audience, one.relieves) for one in watching.all([passed()])]
    assert found == [("recovered", Audience.OPERATOR, "critical"), ("mine", Audience.TENANT, "warning")]


def test_a_given_up_delivery_is_trouble_that_ends_with_the_next_success() -> None:
    watching = Watching(rule(Kind.EXHAUSTED_RETRIES, window_seconds=1), RECOVERED)
    assert watching.kinds([failed(exhausted=True), failed(), passed()]) == [Kind.EXHAUSTED_RETRIES, Kind.RECOVERED]


# rules that are changed while they fire


@pytest.mark.parametrize(
    ("before", "failures", "after", "expected"),
    [
        ({"count": 4, "steps": (50, 100)}, 4, {"count": 8, "steps": (50, 100)}, [(8, 100)]),
        ({"count": 4, "steps": (50, 100)}, 5, {"count": 20, "steps": (50, 70, 90, 100)}, [(10, 50), (14, 70)]),
        ({"count": 20, "steps": (50, 100)}, 12, {"count": 4, "steps": (50, 100)}, [(13, 100)]),
        (
            {"count": 10, "steps": (50, 100)},
            6,
            {"count": 10, "steps": (30, 60, 80, 100)},
            [(7, 60), (8, 80), (10, 100)],
        ),
        ({"count": 4, "steps": (50, 100)}, 6, {"count": 4, "steps": (50, 100)}, []),
    ],
)
def test_steps_of_a_changed_rule_are_told_where_the_streak_passes_them(
    before: dict[str, Any], failures: int, after: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    watching = Watching(rule(Kind.CONSECUTIVE_FAILURES, **before))
    watching.all(failed() for _ in range(failures))
    watching.watched = watched(rule(Kind.CONSECUTIVE_FAILURES, **after))
    found = watching.all(failed() for _ in range(14 - failures))
    assert [(one.data["current"], one.data["threshold"]) for one in found] == expected


def test_a_failure_rate_that_was_raised_has_to_be_passed_as_well() -> None:
    def limit(percent: float) -> list[Watched]:
        return watched(rule(Kind.FAILURE_RATE, percent=percent, min_count=4, window_seconds=600), RECOVERED)

    watching = Watching()
    watching.watched = limit(50)
    assert watching.kinds([passed(), passed(), failed(), failed()]) == [Kind.FAILURE_RATE]
    watching.watched = limit(90)
    assert watching.kinds([failed()] * 15) == []
    assert watching.kinds([failed()]) == [Kind.FAILURE_RATE]  # 18 of 20
    watching.watched = limit(20)
    assert watching.kinds([failed(), failed()]) == []


def test_trials_are_planned_by_the_rule_as_it_is_now() -> None:
    gone = rule(Kind.AUTO_DISABLE, codes=("410",))
    watching = Watching(gone)
    watching.all([failed(code="410")])
    assert watching.health.probe_at is None
    trying = watched(structs.replace(gone, thresholds=Thresholds(codes=("410",), probe_after_seconds=60)))
    planned = healths.replanned(watching.health, trying, NOW + SECOND)
    assert planned.probe_at == NOW + 61 * SECOND
    assert healths.replanned(planned, trying, NOW + DAY) == planned
    assert healths.replanned(planned, watching.watched, NOW).probe_at is None


def test_a_rule_that_is_gone_does_not_stand_for_ever() -> None:
    rate = rule(Kind.FAILURE_RATE, percent=50, min_count=1, window_seconds=600)
    watching = Watching(rate, RECOVERED)
    watching.see(failed())
    watching.watched = watched(RECOVERED)
    assert watching.kinds([passed()]) == [Kind.RECOVERED]
    assert watching.health == WELL


# disabling


def disabling(of: Rule, sightings: Iterable[Sighting]) -> list[str | None]:
    watching = Watching(of)
    seen = [watching.see(sighting).disabling for sighting in sightings]
    return [None if why is None else why.reason for why in seen]


@given(
    st.none() | st.integers(1, 6),
    st.none() | st.integers(1, 6),
    st.booleans(),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=15),
)
def test_one_limit_or_both(
    count: int | None, seconds: int | None, all_of: bool, drawn: Sequence[tuple[bool, int]]
) -> None:
    of = rule(Kind.AUTO_DISABLE, count=count, failing_seconds=seconds, all_of=all_of)
    now, streak, since, expected, sightings = NOW, 0, NOW, list[bool](), list[Sighting]()
    for ok, step in drawn:
        now += step * SECOND
        sightings.append(passed(now) if ok else failed(now))
        since = now if streak == 0 else since
        streak = 0 if ok else streak + 1
        too_many = count is not None and streak >= count
        too_long = seconds is not None and now - since >= seconds * SECOND
        both = all_of and count is not None and seconds is not None
        expected.append(not ok and (too_many and too_long if both else too_many or too_long))
        if expected[-1]:
            break
    assert [reason is not None for reason in disabling(of, sightings)] == expected


def test_why_it_was_disabled_is_said() -> None:
    watching = Watching(rule(Kind.AUTO_DISABLE, failing_seconds=60), DISABLED)
    watching.see(failed())
    seen = watching.see(failed(NOW + 60 * SECOND, code="timeout", detail="it took too long"))
    assert seen.disabling == Disabling(
        reason="failing_too_long",
        by="system",
        code="timeout",
        detail="it took too long",
        failures=2,
        failing_since=NOW,
    )
    assert [one.data for one in seen.raised] == [{"reason": "failing_too_long", "streak": 2, "failing_since": NOW}]


def test_a_code_disables_at_once_but_not_on_a_manual_attempt() -> None:
    gone = rule(Kind.AUTO_DISABLE, count=1000, failing_seconds=1000, all_of=True, codes=("410", "404"))
    assert disabling(gone, [failed(code="410", manual=True), failed(), failed(code="410")]) == [None, None, "gone"]


def test_the_strictest_of_two_owners_disables() -> None:
    watching = Watching()
    watching.watched = [
        Watched(rule(Kind.AUTO_DISABLE, count=100), Audience.BOTH),
        Watched(rule(Kind.AUTO_DISABLE, "tenants", count=3), Audience.TENANT),
    ]
    assert [watching.see(failed()).disabling is not None for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("why", [BY_HAND, Disabling(reason="gone", by="system")])
def test_nothing_is_counted_or_told_while_it_is_disabled(why: Disabling) -> None:
    watching = Watching(STEPS, DISABLED, RECOVERED, rule(Kind.AUTO_DISABLE, count=3))
    watching.disabled = why
    assert watching.all(failed(exhausted=True) for _ in range(30)) == []
    assert watching.health == WELL


def test_a_success_enables_what_waypost_disabled_and_nothing_else() -> None:
    watching = Watching(DISABLED, RECOVERED, rule(Kind.AUTO_DISABLE, count=3))
    watching.all(failed() for _ in range(3))
    seen = watching.see(passed(NOW + SECOND))
    assert seen.enable
    assert [(one.kind, one.data) for one in seen.raised] == [(Kind.RECOVERED, {"failing_since": NOW})]
    assert watching.health == WELL
    watching.disabled = BY_HAND
    assert not watching.see(passed()).enable


def test_enabled_by_hand_it_starts_anew_and_its_end_is_still_told() -> None:
    watching = Watching(STEPS, DISABLED, RECOVERED, rule(Kind.AUTO_DISABLE, count=20, probe_after_seconds=60))
    watching.all(failed() for _ in range(20))
    watching.health, watching.disabled = healths.enabled(watching.health), None
    assert (watching.health.streak, watching.health.failing_since, watching.health.probe_at) == (0, None, None)
    assert watching.all(failed() for _ in range(9)) == []
    assert watching.kinds([failed()]) == [Kind.CONSECUTIVE_FAILURES]
    assert watching.kinds([passed(), passed()]) == [Kind.RECOVERED]
    assert healths.enabled(WELL) == WELL


# trials


def test_each_wait_for_a_trial_is_twice_the_one_before_and_at_most_a_day() -> None:
    watching = Watching(rule(Kind.AUTO_DISABLE, count=1, probe_after_seconds=3_600))
    watching.see(failed())
    waits, now = [], NOW
    for _ in range(40):
        assert watching.health.probe_at is not None
        waits.append((watching.health.probe_at - now) // SECOND)
        now = watching.health.probe_at
        watching.see(failed(now - 1))  # under way before: no trial
        assert watching.health.probe_at == now
        watching.see(failed(now))
    assert waits[:6] == [3_600, 7_200, 14_400, 28_800, 57_600, 86_400]
    assert set(waits[5:]) == {86_400}
    assert watching.health.probes == 40


def test_without_a_wait_there_is_no_trial_and_of_two_the_shorter_holds() -> None:
    watching = Watching(rule(Kind.AUTO_DISABLE, count=1))
    watching.see(failed())
    assert watching.health.probe_at is None
    watching.see(failed(NOW + DAY))
    assert watching.health.probes == 0
    both = Watching(
        rule(Kind.AUTO_DISABLE, count=1, probe_after_seconds=90),
        rule(Kind.AUTO_DISABLE, "tenants", count=1, probe_after_seconds=60),
    )
    both.see(failed())
    assert both.health.probe_at == NOW + 60 * SECOND


def test_a_wait_longer_than_a_day_is_kept() -> None:
    watching = Watching(rule(Kind.AUTO_DISABLE, count=1, probe_after_seconds=3 * 86_400))
    watching.see(failed())
    assert watching.health.probe_at == NOW + 3 * DAY
    watching.see(failed(NOW + 3 * DAY))
    assert watching.health.probe_at == NOW + 6 * DAY
