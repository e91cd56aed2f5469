"""From one dialect to another, and what another has no words for."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core.filters import Dialect, FilterError, FilterLimits, convert, normalise


def pattern(of_data: Any) -> dict[str, Any]:
    return {"$dialect": "eventbridge", "pattern": {"data": of_data}}


@pytest.mark.parametrize(
    ("filter_", "to", "converted"),
    [
        ({"data": {"variants": {"price": {"$gte": 10}}}}, "shopify", "variants.price:>=10"),
        ("variants.price:>=10.00", "hookdeck", {"data": {"variants": {"price": {"$gte": 10.0}}}}),
        ({"data": {"a": 5, "b": "x y", "c": True}}, "shopify", 'a:5 AND b:"x y" AND c:true'),
        ({"data": {"a": {"$neq": "x"}}, "topic": "t"}, "shopify", "-a:x AND topic:t"),
        ({"data": {"a": {"$exist": False}}}, "shopify", "-a:*"),
        ({"data": {"a": {"$in": ["x", "y"]}}}, "shopify", "a:x OR a:y"),
        ({"data": {"a": {"$startsWith": ["x", "y"]}}}, "shopify", 'a:"x"* OR a:"y"*'),
        ({"data": {"a": {"$or": ["x", {"$gt": 5}]}, "b": 1}}, "shopify", "(a:x OR a:>5) AND b:1"),
        ({"data": {"a.b": {"-c": "5"}}}, "shopify", r'a\.b.\-c:"5"'),
        ({"$not": {"$not": {"data": {"a": 1}}}}, "shopify", "-(-a:1)"),
        ("a.b:1 AND -c:x", "hookdeck", {"$and": [{"data": {"a": {"b": 1}}}, {"$not": {"data": {"c": "x"}}}]}),
        ("a:x OR topic:t", "hookdeck", {"$or": [{"data": {"a": "x"}}, {"topic": "t"}]}),
        ("a:x OR b:true", "eventbridge", {"$or": [{"data": {"a": ["x"]}}, {"data": {"b": [True]}}]}),
        (
            "a:x AND b.c:y AND metadata.d:z", "eventbridge",
            {"data": {"a": ["x"], "b": {"c": ["y"]}}, "metadata": {"d": ["z"]}},
        ),
        ({"data": {"a": {"$in": [5, "x"]}}}, "eventbridge", {"data": {"a": [5, "x"]}}),
        ({"data": {"a": {"$eq": "5"}}}, "eventbridge", {"data": {"a": ["5", 5]}}),
        ({"data": {"a": {"$contains": "*x"}}}, "eventbridge", {"data": {"a": [{"wildcard": "*\\*x*"}]}}),
        (
            {"data": {"items": {"a": "x", "b": {"$ieq": "y"}}}}, "eventbridge",
            {"data": {"items": {"a": ["x"], "b": [{"equals-ignore-case": "y"}]}}},
        ),
        ({"data": {"a": {"$or": ["x", {"$endsWith": "y"}]}}}, "eventbridge", {"data": {"a": ["x", {"suffix": "y"}]}}),
        (pattern({"a": ["x", {"prefix": "y"}]}), "hookdeck", {"data": {"a": {"$or": ["x", {"$startsWith": "y"}]}}}),
        (pattern({"a": [5, "5"]}), "hookdeck", {"data": {"a": {"$in": [5, "5"]}}}),
        (pattern({"a": ["x"], "b": {"c": [True]}}), "shopify", "a:x AND b.c:true"),
    ],
)  # fmt: skip
def test_conversion(filter_: Any, to: Dialect, converted: Any) -> None:
    expected = {"$dialect": to, "pattern": converted} if to == "eventbridge" else normalise(converted)
    assert convert(normalise(filter_), to) == expected


@pytest.mark.parametrize(
    ("filter_", "to", "says"),
    [
        ({}, "shopify", "a field holds an object"),
        ({}, "eventbridge", "a field holds an object"),
        ({"data": {"a": 5}}, "eventbridge", "a number to numeric text"),
        ({"data": {"a": {"$gt": 5}}}, "eventbridge", "ordered in this way"),
        ({"data": {"a": {"b": 1, "c": 1}}}, "shopify", "several conditions"),
        ({"data": {"a": {"$gt": 1, "$lt": 5}}}, "shopify", "several conditions"),
        ({"data": {"a": {"b": {"$neq": 1}}}}, "shopify", "one element of a list"),
        ({"data": {"a": {"$regex": "x"}}}, "shopify", "regular expression"),
        ({"data": {"a": {"$contains": "x"}}}, "shopify", "contains another"),
        ({"data": {"a": {"$endsWith": "x"}}}, "shopify", "ends so"),
        ({"data": {"a": {"$ieq": "x"}}}, "shopify", "case is disregarded"),
        ({"data": {"a": {"$in": [5]}}}, "shopify", "types included"),
        ({"data": {"a": {"$eq": [5]}}}, "shopify", "an object or a list"),
        ({"data": {"a": [5]}}, "shopify", "includes several values"),
        ({"data": {"a": {"$gt": "5"}}}, "shopify", "numeric text is compared as text"),
        ({"data": {"a": {"$ref": "b"}}}, "shopify", "equal in this way"),
        ({"data": {"topic": "x"}}, "shopify", "a condition on data.topic"),
        ({"data": {"metadata": {"a": "x"}}}, "shopify", "a condition on data.metadata.a"),
        ({"id": "x"}, "shopify", "a condition on id"),
        ({"data": {"": "x"}}, "shopify", "empty name"),
        ({"$not": {"data": {"a": "x"}}}, "eventbridge", "does not hold"),
        ("a.b:x AND a.c:y", "eventbridge", "different elements of one list"),
        ("a:x AND a:y", "eventbridge", "two things about one field"),
        ("a:*", "eventbridge", "exists whatever it holds"),
        (pattern({"a": [{"numeric": [">", 5]}]}), "hookdeck", "ordered in this way"),
        (pattern({"a": [{"anything-but": "x"}]}), "hookdeck", "a text, number, boolean or null"),
        (pattern({"a": [{"cidr": "10.0.0.0/8"}]}), "hookdeck", "in a network"),
        (pattern({"a": [{"wildcard": "x*"}]}), "hookdeck", "a wildcard"),
        (pattern({"$a": ["x"]}), "hookdeck", "as an operator"),
        (pattern({"a": [{"prefix": {"equals-ignore-case": "x"}}]}), "shopify", "begins so"),
    ],
)
def test_what_a_dialect_has_no_words_for(filter_: Any, to: Dialect, says: str) -> None:
    with pytest.raises(FilterError) as refusal:
        convert(normalise(filter_), to)
    assert says in str(refusal.value)
    assert "cannot say" in str(refusal.value) or "operator" in str(refusal.value)


@pytest.mark.parametrize("filter_", [{"data": {"a": 1}}, "a:1", pattern({"a": [1]})])
def test_to_its_own_dialect_a_filter_stays_as_it_is(filter_: Any) -> None:
    filter_ = normalise(filter_)
    dialect = filter_.get("$dialect", "hookdeck")
    assert convert(filter_, dialect) == filter_


def test_a_conversion_keeps_the_limits() -> None:
    with pytest.raises(FilterError, match="nested deeper than 4"):
        convert(normalise("a.b.c.d:1"), "hookdeck", FilterLimits(max_depth=4))
