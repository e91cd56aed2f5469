"""Random events and random filters in the three dialects, over few names and values so that they often meet."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c")
TEXTS = ("", "a", "A", "ab", "Abc", "b c", "ß", "SS", "10.0.0.7", "*", "true", "null", "a\\b", 'q"t')
NUMERIC_TEXTS = ("1", "1.0", "01", "10", "9", "2.50", "-1", "1e1")
NUMBERS: tuple[int | Decimal, ...] = (
    0,
    1,
    9,
    10,
    -1,
    2**63,
    Decimal("1.0"),
    Decimal("2.5"),
    Decimal("0.1"),
    Decimal("1E+1"),
)

texts = st.sampled_from(TEXTS + NUMERIC_TEXTS)
numbers = st.sampled_from(NUMBERS)
scalars: st.SearchStrategy[Any] = st.one_of(texts, numbers, st.booleans(), st.none())
names = st.sampled_from(NAMES)


def objects(members: st.SearchStrategy[Any], *, least: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, members, min_size=least, max_size=3)


values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), objects(inner)), max_leaves=8
)
data = objects(values)
metadata = st.dictionaries(names, texts, max_size=2)

# --- Hookdeck JSON ----------------------------------------------------------------------------------------------------

refs = st.sampled_from(
    ["data.a", "data.b", "data.a[0]", "data.a[$index].b", "data.a.b", "data['c']", "topic", "metadata.a"]
)
_ref = st.builds(lambda path: {"$ref": path}, refs)
_some_texts = st.one_of(texts, st.lists(texts, min_size=1, max_size=3))
_ordered = st.one_of(texts, numbers, _ref)
_member = st.one_of(texts, numbers, st.lists(scalars, max_size=3), _ref)
_plain_values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=2), objects(inner)), max_leaves=4
)

OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "$eq": st.one_of(_plain_values, _ref),
    "$neq": st.one_of(_plain_values, _ref),
    "$gt": _ordered,
    "$gte": _ordered,
    "$lt": _ordered,
    "$lte": _ordered,
    "$in": _member,
    "$nin": _member,
    "$startsWith": st.one_of(_some_texts, _ref),
    "$endsWith": st.one_of(_some_texts, _ref),
    "$contains": _some_texts,
    "$ieq": _some_texts,
    "$regex": st.sampled_from(["^a", "b$", "[0-9]+", "(?i)ABC", "."]),
    "$exist": st.booleans(),
    "$ref": refs,
}


def _operators(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    logic = {
        "$or": st.lists(schemas, min_size=1, max_size=3),
        "$and": st.lists(schemas, min_size=1, max_size=3),
        "$not": schemas,
    }
    one = st.sampled_from(sorted(OPERANDS | logic)).flatmap(
        lambda key: st.tuples(st.just(key), (OPERANDS | logic)[key])
    )
    return st.lists(one, min_size=1, max_size=3).map(dict)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        objects(inner),
        st.lists(inner, max_size=2),
        _operators(inner),
        st.builds(lambda fields, operators: fields | operators, objects(inner, least=1), _operators(inner)),
    )


schemas = st.recursive(scalars, _schemas, max_leaves=6)
hookdeck = st.one_of(
    objects(schemas).map(lambda fields: {"data": fields}),
    st.builds(lambda fields, operators: {"data": fields | operators}, objects(schemas), _operators(schemas)),
    st.builds(lambda one, other: {"$or": [{"data": one}, {"data": other}]}, objects(schemas), objects(schemas)),
    st.builds(
        lambda one, other: {"$and": [{"data": one}, {"$not": {"data": other}}]}, objects(schemas), objects(schemas)
    ),
)

# --- Shopify ----------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_words = st.one_of(
    texts.map(quoted), st.sampled_from(["a", "true", "false", "null", "1", "1.0", "01", "-1", "2.5", r"a\:b", "'x y'"])
)
_paths = st.one_of(
    st.lists(names, min_size=1, max_size=3).map(".".join), st.sampled_from(["topic", "metadata.a", r"od\.d", r"\-a"])
)
_comparisons = st.one_of(
    st.just(":*"),
    _words.map(lambda word: ":" + word),
    texts.map(lambda text: f":{quoted(text)}*"),
    st.builds(
        lambda sign, word: f":{sign}{word}",
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from(["1", "9.5", '"10"', "a", "'b c'"]),
    ),
)
_conditions = st.builds(lambda path, comparison: path + comparison, _paths, _comparisons)
shopify_queries: st.SearchStrategy[str] = st.recursive(
    _conditions,
    lambda inner: st.one_of(
        st.builds(" AND ".join, st.lists(inner, min_size=2, max_size=3)),
        st.builds(" OR ".join, st.lists(inner, min_size=2, max_size=3)),
        st.builds(" ".join, st.lists(inner, min_size=2, max_size=2)),
        inner.map(lambda query: f"({query})"),
        inner.map(lambda query: f"-({query})"),
        inner.map(lambda query: f"NOT ({query})"),
    ),
    max_leaves=5,
)
shopify = shopify_queries.map(lambda query: {"$dialect": "shopify", "query": query})

# --- EventBridge ------------------------------------------------------------------------------------------------------

_wildcards = st.sampled_from(["*", "a*", "*b", "a*c", r"\*", r"a\\*", "x"])
_affixes = st.one_of(texts, texts.map(lambda text: {"equals-ignore-case": text}))
_several = st.one_of(texts, st.lists(texts, min_size=1, max_size=2))
_excluded = st.one_of(
    scalars,
    st.lists(scalars, min_size=1, max_size=3),
    _several.map(lambda text: {"prefix": text}),
    _several.map(lambda text: {"suffix": text}),
    _several.map(lambda text: {"equals-ignore-case": text}),
    _wildcards.map(lambda text: {"wildcard": text}),
)
_numeric = st.one_of(
    st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), numbers).map(list),
    st.sampled_from([[">", 0, "<=", 9], [">=", Decimal("0.1"), "<", 10]]),
)
matchers = st.one_of(
    scalars,
    _affixes.map(lambda text: {"prefix": text}),
    _affixes.map(lambda text: {"suffix": text}),
    texts.map(lambda text: {"equals-ignore-case": text}),
    _wildcards.map(lambda text: {"wildcard": text}),
    _excluded.map(lambda excluded: {"anything-but": excluded}),
    _numeric.map(lambda numeric: {"numeric": numeric}),
    st.just({"cidr": "10.0.0.0/24"}),
    st.booleans().map(lambda there: {"exists": there}),
)
_leaves = st.lists(matchers, min_size=1, max_size=3)


def _patterns(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = objects(inner, least=1)
    own = st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    apart = st.dictionaries(st.sampled_from(["c", "d"]), inner, min_size=1, max_size=2)
    return st.one_of(
        fields,
        st.builds(lambda fields, choices: fields | {"$or": choices}, own, st.lists(apart, min_size=2, max_size=2)),
    )


patterns = st.recursive(_leaves, _patterns, max_leaves=5).filter(lambda pattern: isinstance(pattern, dict))
eventbridge = patterns.map(lambda pattern: {"$dialect": "eventbridge", "pattern": {"data": pattern}})

filters = st.one_of(hookdeck, shopify, eventbridge)

# --- filters that more than one dialect can say -----------------------------------------------------------------------

_names_and_text = st.sampled_from([text for text in TEXTS if text not in ("true", "null")])
_simple_schemas = st.one_of(
    _names_and_text,
    st.booleans(),
    st.builds(lambda texts: {"$in": texts}, st.lists(_names_and_text, min_size=1, max_size=2)),
    st.builds(lambda text: {"$startsWith": text}, _names_and_text),
    st.builds(lambda number: {"$gte": number}, numbers),
    st.builds(lambda text: {"$neq": text}, _names_and_text),
)
_one_field = st.builds(lambda name, schema: {name: schema}, names, _simple_schemas)
_simple_hookdeck = st.one_of(
    objects(_simple_schemas, least=1), st.builds(lambda name, inner: {name: inner}, names, _one_field)
).map(lambda fields: {"data": fields})
_simple_conditions = st.builds(
    lambda path, word: f"{path}:{word}",
    st.lists(names, min_size=1, max_size=2).map(".".join),
    st.sampled_from(["a", "ab", '"b c"', "true", '"A"*', ">=5", "*"]),
)
_simple_shopify = st.one_of(
    _simple_conditions,
    st.builds(" OR ".join, st.lists(_simple_conditions, min_size=2, max_size=3)),
    st.builds(" AND ".join, st.lists(_simple_conditions, min_size=2, max_size=3)),
).map(lambda query: {"$dialect": "shopify", "query": query})
_simple_leaves = st.lists(
    st.one_of(_names_and_text, st.booleans(), numbers, _names_and_text.map(lambda text: {"prefix": text})),
    min_size=1,
    max_size=2,
)
_simple_eventbridge = st.one_of(
    objects(_simple_leaves, least=1),
    st.builds(lambda name, leaves: {"a": {name: leaves}}, names, _simple_leaves),
).map(lambda pattern: {"$dialect": "eventbridge", "pattern": {"data": pattern}})

CONVERTIBLE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "hookdeck": st.one_of(_simple_hookdeck, hookdeck),
    "shopify": st.one_of(_simple_shopify, shopify),
    "eventbridge": st.one_of(_simple_eventbridge, eventbridge),
}
