"""JSON Schemas: what is refused when one is compiled, and what is found wrong with data."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from waypost.core.schemas import MOST_FAULTS, Fault, Schema, SchemaError

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "email": {"format": "email"},
        "items": {"items": {"type": "string"}},
        "self": {"$ref": "#"},
    },
    "additionalProperties": False,
}


def faults(schema: Any, data: Any) -> list[str]:
    return [
        str(fault) for fault in Schema(schema).faults(data if isinstance(data, bytes) else msgspec.json.encode(data))
    ]


def refusal(schema: Any) -> Fault:
    with pytest.raises(SchemaError) as refused:
        Schema(schema)
    return refused.value.fault


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"id": 1, "email": "a@example.com", "items": ["x"], "self": {"id": 2}}, []),
        ({}, ['"id" is a required property']),
        ({"id": 0}, ["it is less than the minimum of 1 (at /id)"]),
        ({"id": 1, "items": ["a", 2]}, ['it is not of type "string" (at /items/1)']),
        ({"id": 1, "self": {"id": "x"}}, ['it is not of type "integer" (at /self/id)']),
        ({"id": 1, "email": "nobody"}, ['it is not a "email" (at /email)']),
        ({"id": 1, "a/b": 1}, ["additional properties are not allowed ('a/b' was unexpected)"]),
    ],
)
def test_what_is_wrong_with_data(data: Any, found: list[str]) -> None:
    assert faults(ORDER, data) == found


def test_numbers_are_exact() -> None:
    assert faults({"properties": {"n": {"maximum": 2**53}}}, {"n": 2**53}) == []
    assert faults({"properties": {"n": {"maximum": 2**53}}}, {"n": 2**53 + 1})
    assert faults({"properties": {"n": {"multipleOf": 0.01}}}, b'{"n": 0.29}') == []


def test_faults_are_not_endless() -> None:
    assert len(faults({"additionalProperties": {"type": "string"}}, {str(n): n for n in range(100)})) == MOST_FAULTS


def test_values_do_not_show() -> None:
    assert "secret" not in str(faults({"properties": {"pin": {"const": 1}}}, {"pin": "secret"}))


@pytest.mark.parametrize("data", [b'{"a":', b'{"a":NaN}', b"[" * 100_000])
def test_what_is_no_json(data: bytes) -> None:
    assert faults(True, data) == ["it cannot be read as JSON"]


def test_older_drafts() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"]}}
    assert faults(schema, {"a": 1})
    assert faults(schema, {"b": 1}) == []


@pytest.mark.parametrize(
    ("schema", "pointer", "says"),
    [
        (5, "", 'not of types "boolean", "object"'),
        ({"type": "strin"}, "/type", "not valid"),
        ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum", 'not of type "number"'),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern", 'not a "regex"'),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, "/properties/a/pattern", 'not a "regex"'),
        ({"properties": {"a": {"pattern": "((a{1000}){1000})"}}}, "/properties/a/pattern", 'not a "regex"'),
        ({"items": {"$ref": "https://example.com/a.json"}}, "/items/$ref", "cannot fetch https://example.com/a.json"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "/items/$ref", "cannot fetch"),
        ({"prefixItems": [{}], "not": {"$ref": "#/$defs/b"}}, "/not/$ref", "does not exist"),
        ({"$schema": "https://example.com/meta"}, "/$schema", "unknown meta-schema"),
    ],
)  # fmt: skip
def test_a_bad_schema_is_refused_with_its_place(schema: Any, pointer: str, says: str) -> None:
    assert refusal(schema).pointer == pointer
    assert says in refusal(schema).sentence


def test_patterns_take_linear_time() -> None:
    assert faults({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "!"})


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(100_000):
        schema = {"not": schema}
    assert "recursion limit" in refusal(schema).sentence


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"properties": {"l": {"items": {"type": "string"}}}}, b'{"l":[' + b",".join([b"1"] * 400_000) + b"]}"),
        (
            {"additionalProperties": {"enum": list(range(1_000))}},
            b"{" + b",".join(b'"%d":"x"' % number for number in range(50_000)) + b"}",
        ),
    ],
)
def test_of_large_data_one_fault_is_told(schema: Any, data: bytes) -> None:
    """To tell several, the library would look at all of it."""
    checked = Schema(schema)
    (fault,) = checked.faults(data)
    assert fault.pointer
    assert "it is not" in fault.sentence


def test_what_cannot_be_checked_is_a_fault() -> None:
    (fault,) = Schema({"properties": {"a": {"maximum": 5}}}).faults(b'{"a":' + b"9" * 200_000 + b"}")
    assert fault.sentence.startswith("it cannot be checked: exceeds the limit")
    (fault,) = Schema({"type": "string"}).faults(b"[" * 900 + b"1" + b"]" * 900)
    assert fault.sentence == "it cannot be checked: recursion limit reached"
