"""Hookdeck JSON: the filter has the shape of the event, with values or operator objects at its leaves.

A schema with fields is about one element where the document has a list: everything in it is asked of that element. A
schema of operators only is about the field as a whole: its comparisons look for one element that meets them all, while
`$neq`, `$nin`, `$not`, `$or`, `$and` and `$exist` combine or negate statements about the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from waypost.core.filters import paths
from waypost.core.filters.ast import (
    AllOf,
    AnyOf,
    Compare,
    Comparison,
    Contains,
    Element,
    EndsWith,
    Equal,
    EqualFold,
    Exists,
    Fields,
    FoundIn,
    Includes,
    Matches,
    Not,
    OneOf,
    Ref,
    Same,
    StartsWith,
    Test,
    all_of,
    any_of,
    below,
    every,
)
from waypost.core.filters.errors import FilterError, Pointer, refuse
from waypost.core.filters.limits import FilterLimits
from waypost.core.filters.regex import Regex
from waypost.core.filters.values import Scalar, frozen, frozen_scalar, is_number, thawed
from waypost.core.filters.wording import without_words

_COMPARISONS: Mapping[str, Comparison] = MappingProxyType({"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="})
_COMPARISON_KEYS = MappingProxyType({operator: key for key, operator in _COMPARISONS.items()})


def parse(schema: Mapping[str, Any], limits: FilterLimits, at: Pointer = ()) -> Test:
    """Read a schema. Raises FilterError. The caller has bounded its depth and size (`check_size`)."""
    return _Reader(limits).schema(schema, at)


class _Reader:
    """Reads schemas; one method for each kind of operand. `at` is where the part stands in the filter."""

    def __init__(self, limits: FilterLimits) -> None:
        self._limits = limits
        self._conditions: dict[str, Callable[[Any, Pointer], Test]] = {
            "$eq": self.equal,
            "$ref": lambda path, at: Equal(self.ref(path, at)),
            "$in": self.member,
            "$startsWith": lambda operand, at: self.affix(operand, at, StartsWith),
            "$endsWith": lambda operand, at: self.affix(operand, at, EndsWith),
            "$contains": lambda operand, at: self.texts(operand, at, Contains),
            "$ieq": lambda operand, at: self.texts(operand, at, EqualFold),
            "$regex": self.regex,
        }
        self._statements: dict[str, Callable[[Any, Pointer], Test]] = {
            "$neq": lambda operand, at: Not(_of_element(self.equal(operand, at))),
            "$nin": lambda operand, at: Not(Element(self.member(operand, at))),
            "$exist": self.exist,
            "$not": lambda schema, at: Not(self.schema(schema, at)),
            "$and": lambda schemas, at: all_of(self.schemas(schemas, at)),
            "$or": lambda schemas, at: any_of(self.schemas(schemas, at)),
        }

    def schema(self, schema: object, at: Pointer) -> Test:
        if isinstance(schema, Mapping):
            return self.keys(schema, at)
        if isinstance(schema, list | tuple):
            return Includes(tuple(self.schema(member, (*at, index)) for index, member in enumerate(schema)))
        return Element(Equal(_scalar(schema, at)))

    def keys(self, schema: Mapping[str, Any], at: Pointer) -> Test:
        fields = Fields(tuple((key, self.schema(schema[key], (*at, key))) for key in schema if not _is_operator(key)))
        conditions: list[Test] = []
        statements: list[Test] = []
        for key in filter(_is_operator, schema):
            test = self.operator(key, schema[key], (*at, key))
            on_element = key in self._conditions or key in _COMPARISONS
            (conditions if on_element and not isinstance(_of_element(test), Same) else statements).append(test)
        if fields.members or not schema:
            return Element(all_of((fields, *conditions, *statements)))
        return all_of((*([Element(all_of(conditions))] if conditions else []), *statements))

    def operator(self, key: str, operand: object, at: Pointer) -> Test:
        if key in _COMPARISONS:
            return Compare(_COMPARISONS[key], self.ordered(operand, at))
        reader = self._conditions.get(key) or self._statements.get(key)
        if reader is None:
            known = ", ".join(sorted([*_COMPARISONS, *self._conditions, *self._statements]))
            refuse(at, f"{key} is no operator; the operators are {known}")
        return reader(operand, at)

    def schemas(self, schemas: object, at: Pointer) -> list[Test]:
        if not isinstance(schemas, list | tuple) or not schemas:
            refuse(at, f"{at[-1]} needs a list of at least one schema")
        return [self.schema(schema, (*at, index)) for index, schema in enumerate(schemas)]

    def equal(self, operand: object, at: Pointer) -> Test:
        if _writes_ref(operand):
            return Equal(self.ref_in(operand, at))
        if isinstance(operand, Mapping | list | tuple):
            return Same(_frozen(operand, at))
        return Equal(_scalar(operand, at))

    def ordered(self, operand: object, at: Pointer) -> Scalar | Ref:
        if _writes_ref(operand):
            return self.ref_in(operand, at)
        scalar = _scalar(operand, at)
        if not isinstance(scalar, str) and not is_number(scalar):
            refuse(at, f"{at[-1]} compares with a number or a text")
        return scalar

    def member(self, operand: object, at: Pointer) -> Test:
        if _writes_ref(operand):
            return FoundIn(self.ref_in(operand, at))
        if isinstance(operand, list | tuple):
            return OneOf(tuple(_scalar(member, (*at, index)) for index, member in enumerate(operand)))
        scalar = _scalar(operand, at)
        if not isinstance(scalar, str) and not is_number(scalar):
            refuse(at, f"{at[-1]} needs a list, or a text or number to look for in a text")
        return Contains(str(scalar))

    def affix(self, operand: object, at: Pointer, condition: type[StartsWith | EndsWith]) -> Test:
        if _writes_ref(operand):
            return condition(self.ref_in(operand, at))
        return self.texts(operand, at, condition)

    def texts(self, operand: object, at: Pointer, condition: Callable[[str], Test]) -> Test:
        if isinstance(operand, list | tuple) and operand:
            return any_of(condition(_text(text, (*at, index))) for index, text in enumerate(operand))
        return condition(_text(operand, at))

    def regex(self, operand: object, at: Pointer) -> Test:
        pattern = _text(operand, at)
        try:
            Regex(pattern, self._limits)
        except ValueError as error:
            refuse(at, str(error))
        return Matches(pattern)

    def exist(self, operand: object, at: Pointer) -> Test:
        if not isinstance(operand, bool):
            refuse(at, "$exist is true or false")
        return Exists() if operand else Not(Exists())

    def ref_in(self, operand: Any, at: Pointer) -> Ref:
        if len(operand) > 1:
            refuse(at, "$ref stands alone in an operand")
        return self.ref(operand["$ref"], (*at, "$ref"))

    def ref(self, path: object, at: Pointer) -> Ref:
        try:
            return paths.reference(_text(path, at))
        except ValueError as error:
            refuse(at, str(error))


def _is_operator(key: str) -> bool:
    return key.startswith("$")


def _of_element(condition: Test) -> Test:
    """A list as operand is compared with the whole field, everything else with its elements."""
    whole = isinstance(condition, Same) and isinstance(condition.operand, tuple)
    return condition if whole else Element(condition)


def _writes_ref(operand: object) -> bool:
    return isinstance(operand, Mapping) and "$ref" in operand


def _scalar(value: object, at: Pointer) -> Scalar:
    try:
        return frozen_scalar(value)
    except ValueError as error:
        refuse(at, f"a text, a number, true, false or null is needed here: {error}")


def _frozen(value: object, at: Pointer) -> Any:
    try:
        return frozen(value)
    except ValueError as error:
        refuse(at, str(error))


def _text(value: object, at: Pointer) -> str:
    if not isinstance(value, str):
        refuse(at, "a text is needed here")
    return value


# --- writing ----------------------------------------------------------------------------------------------------------


def write(test: Test) -> dict[str, Any]:
    """The schema that asks the same. Raises FilterError where Hookdeck JSON has no words for it."""
    schema = _schema(test)
    return schema if isinstance(schema, dict) else {"$and": [schema]}


def _schema(test: Test) -> Any:  # noqa: PLR0911  # one case for each kind of question
    match test:
        case Element(inner):
            return _element(inner)
        case Includes(tests):
            return [_schema(member) for member in tests]
        case AllOf(tests) if tests:
            return _conjunction([_schema(part) for part in tests])
        case AnyOf(tests) if tests:
            return {"$or": [_schema(part) for part in tests]}
        case Not(inner):
            return _negation(inner)
        case Exists():
            return {"$exist": True}
        case Same(operand):
            return {"$eq": thawed(operand)}
        case Fields():
            return _element(test)
        case _:
            return _without_words(test)


def _element(inner: Test) -> Any:
    match inner:
        case Fields(members):
            return _fields(members)
        case AllOf((Fields(members), *others)) if members:
            conditions = [part for part in others if _key_choices(part)]
            statements = [_schema(part) for part in others if not _key_choices(part)]
            return _merged(_fields(members) | _conditions(conditions), statements)
        case AllOf(parts) if all(map(_key_choices, parts)):
            return _conditions(parts)
        case AnyOf(parts) if not _key_choices(inner):
            return {"$or": [_element(part) for part in parts]}
        case Equal(operand) if not isinstance(operand, Ref):
            return thawed(operand)
        case _ if _key_choices(inner):
            return _conditions((inner,))
        case _:
            return _without_words(inner)


def _fields(members: Iterable[tuple[str, Test]]) -> dict[str, Any]:
    for name, _ in members:
        if _is_operator(name):
            raise FilterError(f"Hookdeck JSON reads the field name {name} as an operator")
    return {name: _schema(member) for name, member in members}


def _negation(inner: Test) -> dict[str, Any]:
    match inner:
        case Exists():
            return {"$exist": False}
        case Element(Equal() | Same() as condition) | (Same() as condition):
            return {"$neq": _operand(condition)}
        case Element(OneOf() | FoundIn() | Contains() as condition):
            return {"$nin": _operand(condition)}
        case _:
            return {"$not": _schema(inner)}


def _conjunction(schemas: list[Any]) -> Any:
    first = schemas[0] if isinstance(schemas[0], dict | list) else {"$eq": schemas[0]}
    if isinstance(first, dict) and first and all(map(_is_operator, first)):
        return _merged(first, schemas[1:])
    return {"$and": schemas}


def _merged(schema: dict[str, Any], statements: list[Any]) -> dict[str, Any]:
    """The schema with the statements beside it while their keys differ, and the rest of them in an `$and`."""
    merged = dict(schema)
    for number, statement in enumerate(statements):
        if not isinstance(statement, dict) or not _stands_beside(statement, merged):
            return merged | {"$and": statements[number:]}
        merged |= statement
    return merged


_STATEMENTS = frozenset({"$neq", "$nin", "$exist", "$not", "$or"})


def _stands_beside(statement: dict[str, Any], schema: dict[str, Any]) -> bool:
    return bool(statement) and statement.keys() <= _STATEMENTS and not statement.keys() & schema.keys()


def _conditions(parts: Iterable[Test]) -> dict[str, Any]:
    """One operator object for conditions on one element. The ones with a single possible key choose first."""
    parts = tuple(parts)
    keys: dict[int, str] = {}
    for number, part in sorted(enumerate(parts), key=lambda numbered: len(_key_choices(numbered[1]))):
        free = [key for key in _key_choices(part) if key not in keys.values()]
        if not free:
            raise FilterError(f"Hookdeck JSON can use {_key_choices(part)[0]} only once on one element")
        keys[number] = free[0]
    return {keys[number]: _operand(part, keys[number]) for number, part in enumerate(parts)}


def _key_choices(condition: Test) -> tuple[str, ...]:  # noqa: PLR0911  # one case for each condition
    """The operators that can ask this of an element; none when only a whole schema can."""
    match condition:
        case Equal(Ref()):
            return ("$ref", "$eq")
        case Same(tuple()):
            return ()
        case Equal() | Same():
            return ("$eq",)
        case OneOf() | FoundIn():
            return ("$in",)
        case Contains():
            return ("$contains", "$in")
        case Compare(operator, _, strict) if not strict:
            return (_COMPARISON_KEYS[operator],)
        case Matches():
            return ("$regex",)
        case AnyOf(tests) if tests and len({_text_key(test) for test in tests}) == 1:
            return _text_key(tests[0])
        case _:
            return _text_key(condition)


def _text_key(condition: Test) -> tuple[str, ...]:
    match condition:
        case StartsWith(_, fold) if not fold:
            return ("$startsWith",)
        case EndsWith(_, fold) if not fold:
            return ("$endsWith",)
        case EqualFold():
            return ("$ieq",)
        case Contains():
            return ("$contains",)
        case _:
            return ()


def _operand(condition: Test, key: str = "") -> Any:
    match condition:
        case Equal(Ref(path)) if key == "$ref":
            return paths.written(path)
        case Equal(operand) | Same(operand) | Compare(_, operand) | StartsWith(operand) | EndsWith(operand):
            return {"$ref": paths.written(operand.path)} if isinstance(operand, Ref) else thawed(operand)
        case FoundIn(ref):
            return {"$ref": paths.written(ref.path)}
        case OneOf(members):
            return [thawed(member) for member in members]
        case Contains(text) | EqualFold(text) | Matches(text):
            return text
        case AnyOf(tests):
            return [_operand(test) for test in tests]
        case _:
            return _without_words(condition)


def _without_words(test: Test) -> NoReturn:
    """Name the innermost question that has no key, for it is the reason."""
    leaf = next((part for part in every(test) if not below(part) and not _key_choices(part)), test)
    without_words("Hookdeck JSON", leaf)
