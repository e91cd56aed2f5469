"""The sentences that say what decided."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core.filters import compile_filter, normalise

from .documents import document


def explained(filter_: Any, data: Any) -> str:
    return compile_filter(normalise(filter_)).explain(document(data, metadata={"region": "eu"}))


@pytest.mark.parametrize(
    ("filter_", "data", "sentence"),
    [
        ({"data": {"a": 5}}, {"a": 5}, "Passes: data.a equals 5."),
        ({"data": {"a": 5}}, {"a": "x"}, 'Does not pass: data.a does not equal 5 (it is "x").'),
        ({"data": {"a": 5}}, {}, "Does not pass: data.a is missing."),
        ({"data": {"a": {"b": 5}}}, {"a": 3}, "Does not pass: data.a is not an object (it is 3)."),
        ({"data": {"a": {}}}, {}, "Does not pass: data.a is missing."),
        ({"data": {"a": {}}}, {"a": {}}, "Passes: data.a is an object."),
        ({}, {}, "Passes: the event is an object."),
        ({"data": {"a": {"$gte": 10}}}, {"a": 9.5}, "Does not pass: data.a is not at least 10 (it is 9.5)."),
        ({"data": {"a": {"$lt": "m"}}}, {"a": "z"}, 'Does not pass: data.a is not less than "m" (it is "z").'),
        ({"data": {"a": 1, "b": 2}}, {"a": 1, "b": 3}, "Does not pass: data.b does not equal 2 (it is 3)."),
        ({"data": {"a": 1, "b": 2}}, {"a": 1, "b": 2}, "Passes: data.a equals 1 and data.b equals 2."),
        ({"data": {"a": {"$neq": 1}}}, {"a": 1}, "Does not pass: data.a equals 1."),
        ({"data": {"a": {"$neq": 1}}}, {}, "Passes: data.a is missing."),
        ({"data": {"a": {"$exist": False}}}, {"a": None}, "Does not pass: data.a exists."),
        ({"data": {"a": {"$in": ["x", "y"]}}}, {"a": "z"}, 'Does not pass: data.a is not one of "x", "y" (it is "z").'),
        ({"data": {"a": {"$in": [1, 2, 3, 4]}}}, {"a": 4}, "Passes: data.a is one of 1, 2, 3, …."),
        ({"data": {"a": {"$regex": "^x"}}}, {"a": "y"}, 'Does not pass: data.a does not match "^x" (it is "y").'),
        ({"data": {"a": {"$ieq": "X"}}}, {"a": "x"}, 'Passes: data.a equals "X" in any case.'),
        ({"data": {"a": {"$contains": "x"}}}, {"a": "y"}, 'Does not pass: data.a does not contain "x" (it is "y").'),
        ({"data": {"a": {"$startsWith": "x"}}}, {"a": "xy"}, 'Passes: data.a starts with "x".'),
        ({"data": {"a": {"$endsWith": "x"}}}, {"a": ["x"]}, 'Passes: data.a[0] ends with "x".'),
        (
            {"data": {"a": {"$ref": "data.b"}}},
            {"a": 1, "b": 2},
            "Does not pass: data.a does not equal data.b (it is 1).",
        ),
        (
            {"data": {"a": {"$eq": {"b": 1}}}},
            {"a": {}},
            "Does not pass: data.a does not equal an object (it is an object).",
        ),
        ({"data": {"a": {"$in": {"$ref": "data.b"}}}}, {"a": 1, "b": [1]}, "Passes: data.a is in data.b."),
        ({"data": {"odd key": {"a": 1}}}, {"odd key": {}}, "Does not pass: data['odd key'].a is missing."),
        (
            {"data": {"items": {"price": {"$gte": 10}}}},
            {"items": [{"price": 1}, {"price": "12.50"}]},
            "Passes: data.items[1].price is at least 10.",
        ),
        (
            {"data": {"items": {"n": {"$gte": 10}}}},
            {"items": [{"n": 1}, {"n": 2}]},
            "Does not pass: none of the 2 elements of data.items fits: data.items[0].n is not at least 10 (it is 1).",
        ),
        ({"data": {"a": 1}}, {"a": []}, "Does not pass: data.a is an empty list."),
        ({"data": {"a": 1}}, {"a": [2]}, "Does not pass: data.a[0] does not equal 1 (it is 2)."),
        ({"data": {"a": 1}}, {"a": [0, [5, 1]]}, "Passes: data.a[1][1] equals 1."),
        ({"data": {"a": [1, 2]}}, {"a": [1]}, "Does not pass: data.a[0] does not equal 2 (it is 1)."),
        ({"data": {"a": []}}, {"a": 1}, "Does not pass: data.a is not a list (it is 1)."),
        ({"data": {"a": []}}, {"a": [1]}, "Passes: data.a is a list."),
        (
            {"data": {"items": {"n": {"$ref": "data.items[$index].m"}}}},
            {"items": [{"n": 1, "m": 2}, {"n": 2, "m": 2}]},
            "Passes: data.items[1].n equals data.items[$index].m.",
        ),
        ("a:1 OR a:2", {"a": 2}, "Passes: data.a equals 2."),
        (
            "a:1 OR b:2",
            {"a": 2},
            "Does not pass: data.a does not equal 1 (it is 2) and data.b is missing.",
        ),
        ("-a:*", {"a": 1}, "Does not pass: data.a exists."),
        ("a:1 OR a:2 OR a:3 OR a:4 OR a:5", {}, "Does not pass: data.a is missing."),
        (
            "a:1 OR b:1 OR c:1 OR d:1 OR e:1",
            {},
            "Does not pass: data.a is missing and data.b is missing and data.c is missing and 2 more.",
        ),
        ("metadata.region:us", {}, 'Does not pass: metadata.region does not equal "us" (it is "eu").'),
        (
            {"$dialect": "eventbridge", "pattern": {"data": {"a": [{"cidr": "10.0.0.0/8"}]}}},
            {"a": "11.0.0.1"},
            'Does not pass: data.a is not in 10.0.0.0/8 (it is "11.0.0.1").',
        ),
        (
            {"$dialect": "eventbridge", "pattern": {"data": {"a": [{"wildcard": "x*y"}]}}},
            {"a": 1},
            'Does not pass: data.a does not match "x*y" (it is 1).',
        ),
        (
            {"$dialect": "eventbridge", "pattern": {"data": {"a": [{"anything-but": "x"}]}}},
            {"a": "x"},
            'Does not pass: data.a equals "x".',
        ),
        (
            {"$dialect": "eventbridge", "pattern": {"data": {"a": [{"exists": True}]}}},
            {"a": {"b": 1}},
            "Does not pass: data.a is not a text, number, boolean or null (it is an object).",
        ),
    ],
)
def test_the_sentence(filter_: Any, data: Any, sentence: str) -> None:
    assert explained(filter_, data) == sentence


def test_long_values_are_cut() -> None:
    sentence = explained({"data": {"a": "x"}}, {"a": "y" * 500})
    assert len(sentence) < 150
    assert "…" in sentence
