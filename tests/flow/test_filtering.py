"""Filters on trial: verdicts with their reasons, and conversions or what stands in their way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.store.builders import event
from waypost.core.errors import Invalid
from waypost.core.filters import DEFAULT_LIMITS, Allowance, FilterLimits
from waypost.flow.filtering import converted, verdicts


async def test_each_event_gets_its_verdict_in_order() -> None:
    events = [event(event_id=str(number), data=b'{"n":%d}' % number) for number in range(5)]
    found = await verdicts({"data": {"n": {"$gte": 3}}}, events, DEFAULT_LIMITS)
    assert [(each.event_id, each.passes) for each in found] == [
        ("0", False),
        ("1", False),
        ("2", False),
        ("3", True),
        ("4", True),
    ]
    assert found[0].reason == "Does not pass: data.n is not at least 3 (it is 0)."
    assert found[4].reason == "Passes: data.n is at least 3."


async def test_others_get_their_turn_between_events() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await verdicts({}, [event() for _ in range(50)], DEFAULT_LIMITS)
    beside.cancel()
    assert turns >= 50


async def test_a_bad_filter_is_refused_with_its_place() -> None:
    with pytest.raises(Invalid) as refusal:
        await verdicts({"data": {"a": {"$gtt": 1}}}, [], DEFAULT_LIMITS)
    [sentence] = refusal.value.data or []
    assert sentence.startswith("filter: $gtt is no operator")
    assert sentence.endswith("(at /data/a/$gtt)")


async def test_the_limits_hold() -> None:
    with pytest.raises(Invalid) as refusal:
        await verdicts("a.b.c:1", [], FilterLimits(max_depth=2))
    assert "more than 2 parts" in str(refusal.value.data)


@pytest.mark.parametrize("empty", [{}])
async def test_no_filter_is_none_in_any_dialect(empty: dict[str, Any]) -> None:
    assert await converted(empty, "shopify", DEFAULT_LIMITS) == {}
    assert await converted(empty, "eventbridge", DEFAULT_LIMITS) == {}


async def test_a_clause_without_words_is_named_with_its_place() -> None:
    with pytest.raises(Invalid) as refusal:
        await converted({"data": {"a": 1, "customer": {"email": {"$regex": "x"}}}}, "shopify", DEFAULT_LIMITS)
    [sentence] = refusal.value.data or []
    assert "cannot say that a text matches a regular expression" in sentence
    assert sentence.endswith("as is asked of data.customer.email")


LONG = event(data=b'{"l": [' + b",".join([b'{"k": 1}'] * 20_000) + b"]}")


async def test_what_takes_too_much_work_does_not_pass_and_says_so() -> None:
    costly = {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * 490}}}}
    (verdict,) = await verdicts(costly, [LONG], DEFAULT_LIMITS)
    assert not verdict.passes
    assert verdict.reason == "Not decided: this takes more work than is left of the 100000 steps for all filters."


async def test_all_events_of_a_trial_have_steps_together() -> None:
    costly = {"data": {"l": {"k": {"$gt": 10_000_000}}}}
    limits = FilterLimits(max_batch_steps=250_000)
    found = await verdicts(costly, [LONG, event(), LONG, LONG, event(data=b'{"l": {"k": 1}}')], limits)
    assert [each.reason.partition(" ")[0] for each in found] == ["Not", "Does", "What", "Not", "Does"]


def test_an_allowance_keeps_a_share_for_each_event() -> None:
    allowance = Allowance(FilterLimits(max_steps=100, max_batch_steps=200), 10)
    given = []
    for _ in range(10):
        steps = allowance.of_next()
        given.append(steps)
        allowance.took(steps)
    assert given == [20] * 10
    assert Allowance(FilterLimits(max_steps=100, max_batch_steps=200), 2).of_next() == 100
