"""What is true of every filter and every event."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waypost.core.filters import Dialect, FilterError, compile_filter, convert, parse, write_filter

from . import strategies
from .documents import document
from .interpreter import holds

pytestmark = pytest.mark.slow

DIALECTS: tuple[Dialect, ...] = ("hookdeck", "shopify", "eventbridge")

thorough = settings(suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(strategies.filters, strategies.data, strategies.metadata)
def test_compiled_filters_agree_with_the_interpreter(
    filter_: dict[str, Any], data: dict[str, Any], metadata: dict[str, str]
) -> None:
    seen = document(data, metadata=metadata)
    compiled = compile_filter(filter_)
    assert compiled.passes(seen) is holds(compiled.parsed.test, seen.scope.root)


@thorough
@given(strategies.filters, strategies.data)
def test_the_explanation_says_what_was_decided(filter_: dict[str, Any], data: dict[str, Any]) -> None:
    seen = document(data)
    compiled = compile_filter(filter_)
    explanation = compiled.explain(seen)
    assert explanation.startswith("Passes: " if compiled.passes(seen) else "Does not pass: ")
    assert explanation.endswith(".")


@pytest.mark.parametrize(
    ("dialect", "filters"),
    [
        ("hookdeck", strategies.hookdeck),
        ("shopify", strategies.shopify),
        ("eventbridge", strategies.eventbridge),
    ],
)
def test_what_is_written_reads_as_the_same(dialect: Dialect, filters: st.SearchStrategy[dict[str, Any]]) -> None:
    @thorough
    @given(filters)
    def check(filter_: dict[str, Any]) -> None:
        test = parse(filter_).test
        written = write_filter(test, dialect)
        assert parse(written).test == test

    check()


@pytest.mark.parametrize(("dialect", "to"), list(itertools.permutations(DIALECTS, 2)))
def test_a_converted_filter_gives_the_same_answers(dialect: Dialect, to: Dialect) -> None:
    """And enough filters can be converted for that to say something."""
    converted = 0

    @thorough
    @given(strategies.CONVERTIBLE[dialect], st.lists(strategies.data, min_size=3, max_size=5))
    def check(filter_: dict[str, Any], events: list[dict[str, Any]]) -> None:
        nonlocal converted
        original = compile_filter(filter_)
        try:
            other = compile_filter(convert(filter_, to))
        except FilterError:
            return
        converted += 1
        for data in events:
            seen = document(data, metadata={"a": "b"})
            assert original.passes(seen) is other.passes(seen), (filter_, other.parsed, data)

    check()
    assert converted


@thorough
@given(strategies.data)
def test_an_empty_filter_passes_everything(data: dict[str, Any]) -> None:
    assert compile_filter({}).passes(document(data))


@thorough
@given(strategies.schemas, strategies.schemas, strategies.data)
def test_the_logic_of_a_field_is_the_logic_of_its_schemas(one: Any, other: Any, data: dict[str, Any]) -> None:
    """`$not`, `$and` and `$or` alone at a field say exactly what they say about the field's schemas apart."""
    seen = document(data)

    def passes(schema: Any) -> bool:
        return compile_filter({"data": {"a": schema}}).passes(seen)

    assert passes({"$not": one}) is not passes(one)
    assert passes({"$and": [one, other]}) is (passes(one) and passes(other))
    assert passes({"$or": [one, other]}) is (passes(one) or passes(other))


@thorough
@given(st.text(max_size=40))
def test_any_text_is_a_query_or_refused_with_a_position(text: str) -> None:
    try:
        parsed = parse({"$dialect": "shopify", "query": text})
    except FilterError as refusal:
        assert refusal.pointer == "/query"  # noqa: PT017  # either outcome is fine, and each has its rule
        assert refusal.position in range(len(text) + 1)  # noqa: PT017
    else:
        assert parse(write_filter(parsed.test, "shopify")) == parsed


junk = st.one_of(
    strategies.scalars,
    st.sampled_from([">", "=", "<"]),
    st.floats(allow_nan=True),
)
MATCHERS = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
    "$or",
    "a",
]


@thorough
@given(
    st.recursive(
        junk,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MATCHERS), inner, max_size=2),
        max_leaves=6,
    )
)
def test_any_json_is_a_pattern_or_refused(value: Any) -> None:
    filter_ = {"$dialect": "eventbridge", "pattern": {"data": value}}
    try:
        compiled = compile_filter(filter_)
    except FilterError as refusal:
        assert refusal.pointer.startswith("/pattern")  # noqa: PT017  # either outcome is fine, and each has its rule
    else:
        compiled.explain(document({"a": [1]}))


@thorough
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*strategies.OPERANDS, "$or", "$not", "a", "$dialect", "query"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_filter_or_refused(value: Any) -> None:
    filter_ = {"data": value}
    try:
        compiled = compile_filter(filter_)
    except FilterError as refusal:
        assert refusal.pointer.startswith("/data")  # noqa: PT017  # either outcome is fine, and each has its rule
    else:
        compiled.explain(document({"a": [1]}))
