"""EventBridge event patterns: fields with lists of what they may be.

A pattern is a set of rules, one for each way to choose from its `$or`s. Within a rule, fields of objects in a list are
tested on one and the same element. `{"exists": false}` speaks of the whole event: nowhere on its path is there a value.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

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
    Fields,
    InNetwork,
    IsScalar,
    Not,
    OneOf,
    Path,
    Ref,
    StartsWith,
    Test,
    Wildcard,
    all_of,
    any_of,
)
from waypost.core.filters.errors import Pointer, refuse
from waypost.core.filters.limits import FilterLimits
from waypost.core.filters.values import (
    Number,
    Scalar,
    frozen_scalar,
    is_number,
    is_plain,
    is_scalar,
    number_in,
    thawed,
)
from waypost.core.filters.wording import without_words

Rule = tuple[tuple[Path, Test], ...]
"""Leaves and what each must be. ABSENT as a leaf's test asks that the event has no such leaf."""

ABSENT = Not(Element(IsScalar()))

_OR = "$or"
_FEWEST_ALTERNATIVES = 2


def parse(pattern: Mapping[str, Any], limits: FilterLimits, at: Pointer = ()) -> Test:
    """Read a pattern. Raises FilterError. The caller has bounded its depth and size (`check_size`)."""
    return any_of(_test_of(rule) for rule in _Reader(limits).rules(pattern, (), at))


class _Reader:
    """Reads a pattern into its rules. `path` leads through the event, `at` through the pattern."""

    def __init__(self, limits: FilterLimits) -> None:
        self._limits = limits
        self._matchers: Mapping[str, Callable[[Any, Pointer], Test]] = {
            "prefix": lambda text, at: self._affix(text, at, StartsWith),
            "suffix": lambda text, at: self._affix(text, at, EndsWith),
            "equals-ignore-case": lambda text, at: EqualFold(_text(text, at)),
            "wildcard": _wildcard,
            "anything-but": self._anything_but,
            "numeric": _numeric,
            "cidr": _network,
        }

    def rules(self, pattern: Mapping[str, Any], path: Path, at: Pointer) -> list[Rule]:
        if not pattern:
            refuse(at, "a pattern names at least one field")
        parts = [self._field(key, pattern[key], path, (*at, key)) for key in pattern]
        return self._product(parts, at)

    def _field(self, key: str, value: object, path: Path, at: Pointer) -> list[Rule]:
        if key == _OR:
            return self._alternatives(value, path, at)
        if isinstance(value, Mapping):
            return self.rules(value, (*path, key), at)
        if not isinstance(value, list | tuple):
            refuse(at, "a field holds a list of what it may be, or an object with fields")
        return self._leaf(value, (*path, key), at)

    def _alternatives(self, patterns: object, path: Path, at: Pointer) -> list[Rule]:
        if not isinstance(patterns, list | tuple) or len(patterns) < _FEWEST_ALTERNATIVES:
            refuse(at, "$or needs a list of at least two patterns")
        for index, pattern in enumerate(patterns):
            if not isinstance(pattern, Mapping):
                refuse((*at, index), "each of $or is a pattern")
        found = [self.rules(pattern, path, (*at, index)) for index, pattern in enumerate(patterns)]
        return self._bounded(list(itertools.chain.from_iterable(found)), at)

    def _product(self, parts: list[list[Rule]], at: Pointer) -> list[Rule]:
        rules: list[Rule] = [()]
        for part in parts:
            if len(rules) * len(part) > self._limits.max_alternatives:
                self._bounded(rules * len(part), at)
            rules = [(*rule, *more) for rule in rules for more in part]
        for rule in rules:
            _check_paths(rule, at)
        return rules

    def _bounded(self, rules: list[Rule], at: Pointer) -> list[Rule]:
        if len(rules) > self._limits.max_alternatives:
            refuse(at, f"the pattern's alternatives multiply to more than {self._limits.max_alternatives}")
        return rules

    def _leaf(self, members: Iterable[object], path: Path, at: Pointer) -> list[Rule]:
        placed = [((*at, index), member) for index, member in enumerate(members)]
        if not placed:
            refuse(at, "a field needs at least one value")
        absent = [member for _, member in placed if _asks_absence(member)]
        present = [(place, member) for place, member in placed if not _asks_absence(member)]
        tests: list[Test] = [ABSENT] if absent else []
        if present:
            tests.append(Element(self._one_of(present)))
        return [((path, test),) for test in tests]

    def _one_of(self, members: list[tuple[Pointer, object]]) -> Test:
        scalars = [_scalar(member, at) for at, member in members if not isinstance(member, Mapping)]
        tests = [self._matcher(member, at) for at, member in members if isinstance(member, Mapping)]
        numbers = [number for test in tests if isinstance(test, OneOf) for number in test.members]
        return any_of([*_equality(scalars + numbers), *(test for test in tests if not isinstance(test, OneOf))])

    def _matcher(self, matcher: Mapping[str, Any], at: Pointer) -> Test:
        if len(matcher) != 1:
            refuse(at, "a matcher has exactly one key")
        ((key, operand),) = matcher.items()
        if key == "exists":
            return self._exists(operand, (*at, key))
        read = self._matchers.get(key)
        if read is None:
            refuse(
                (*at, key), f"{key} is no matcher; the matchers are {', '.join(sorted([*self._matchers, 'exists']))}"
            )
        return read(operand, (*at, key))

    def _exists(self, operand: object, at: Pointer) -> Test:
        if operand is not True:
            refuse(at, "exists is true or false")
        return IsScalar()

    def _affix(self, operand: object, at: Pointer, condition: type[StartsWith | EndsWith]) -> Test:
        if isinstance(operand, Mapping):
            if list(operand) != ["equals-ignore-case"]:
                refuse(at, 'a text is needed here, or {"equals-ignore-case": text}')
            return condition(_text(operand["equals-ignore-case"], (*at, "equals-ignore-case")), fold=True)
        return condition(_text(operand, at))

    def _anything_but(self, operand: object, at: Pointer) -> Test:
        return AllOf((IsScalar(), Not(self._excluded(operand, at))))

    def _excluded(self, operand: object, at: Pointer) -> Test:
        if isinstance(operand, Mapping):
            ((key, inner),) = operand.items() if len(operand) == 1 else ((None, None),)
            if key not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
                refuse(at, "anything-but takes values, or one of prefix, suffix, equals-ignore-case and wildcard")
            texts = inner if isinstance(inner, list | tuple) and inner else [inner]
            return any_of(self._matchers[key](text, (*at, key)) for text in texts)
        members = operand if isinstance(operand, list | tuple) else [operand]
        if not members:
            refuse(at, "anything-but needs at least one value")
        return any_of(_equality([_scalar(member, (*at, index)) for index, member in enumerate(members)]))


def _asks_absence(member: object) -> bool:
    return isinstance(member, Mapping) and list(member) == ["exists"] and member["exists"] is False


def _equality(scalars: list[Scalar]) -> list[Test]:
    """One test for all scalars of a list; none when there are none."""
    if len(scalars) == 1 and is_plain(scalars[0]):
        return [Equal(scalars[0])]
    return [OneOf(tuple(scalars))] if scalars else []


def _scalar(value: object, at: Pointer) -> Scalar:
    try:
        return frozen_scalar(value)
    except ValueError as error:
        refuse(at, f"a text, a number, true, false, null or a matcher is needed here: {error}")


def _text(value: object, at: Pointer) -> str:
    if not isinstance(value, str):
        refuse(at, "a text is needed here")
    return value


def _wildcard(operand: object, at: Pointer) -> Test:
    text = _text(operand, at)
    signs = re.findall(r"\\[*\\]|[^\\]|\\", text, re.DOTALL)
    if "\\" in signs:
        refuse(at, "in a wildcard, a backslash stands before * or another backslash")
    parts = [""]
    for sign, following in itertools.zip_longest(signs, signs[1:]):
        if sign == "*" and following == "*":
            refuse(at, "a wildcard has no two * in a row")
        if sign == "*":
            parts.append("")
        else:
            parts[-1] += sign[-1]
    return Wildcard(tuple(parts))


def _network(operand: object, at: Pointer) -> Test:
    text = _text(operand, at)
    if "/" not in text:
        refuse(at, f"{text!r} is no network: write address/length, as in 10.0.0.0/8 or 2001:db8::/32")
    try:
        return InNetwork(str(ipaddress.ip_network(text, strict=False)))
    except ValueError as error:
        refuse(at, f"{text!r} is no network: {error}")


_LOWER = (">", ">=")
_UPPER = ("<", "<=")


def _numeric(operand: object, at: Pointer) -> Test:
    if not isinstance(operand, list | tuple) or len(operand) not in (2, 4):
        refuse(at, 'numeric takes an operator and a number, or two of each, as in [">", 0, "<=", 5]')
    bounds = [
        (_numeric_operator(operand[index], (*at, index)), _number(operand[index + 1], (*at, index + 1)))
        for index in range(0, len(operand), 2)
    ]
    if len(bounds) > 1:
        _check_range(bounds, at)
    if bounds[0][0] == "=":
        return OneOf((bounds[0][1],))
    return all_of(Compare(_COMPARISONS[operator], number, strict=True) for operator, number in bounds)


_COMPARISONS: Mapping[str, Comparison] = MappingProxyType({"<": "<", "<=": "<=", ">": ">", ">=": ">="})


def _numeric_operator(operator: object, at: Pointer) -> str:
    if not isinstance(operator, str) or (operator != "=" and operator not in _COMPARISONS):
        refuse(at, "the operators of numeric are =, <, <=, > and >=")
    return operator


def _number(value: object, at: Pointer) -> Number:
    number = _scalar(value, at)
    if not is_number(number):
        refuse(at, "a number is needed here")
    return number


def _check_range(bounds: list[tuple[str, Number]], at: Pointer) -> None:
    (low_operator, low), (high_operator, high) = bounds
    if low_operator not in _LOWER or high_operator not in _UPPER:
        refuse(at, "a range has its lower bound first (> or >=), then its upper bound (< or <=)")
    if low >= high:
        refuse(at, "the lower bound must be less than the upper bound")


def _check_paths(rule: Rule, at: Pointer) -> None:
    """A field may be asked about once in a rule: EventBridge itself would silently drop one of two."""
    paths = sorted(path for path, _ in rule)
    for one, following in itertools.pairwise(paths):
        if following[: len(one)] == one:
            refuse(at, f"{'.'.join(one)} is asked about twice, beside $or and within it")


# --- rules and trees --------------------------------------------------------------------------------------------------


def _test_of(rule: Rule) -> Test:
    """Absences in the order of their paths, so that writing a pattern and reading it again changes nothing."""
    present = [(path, test) for path, test in rule if test is not ABSENT]
    absent = sorted(path for path, test in rule if test is ABSENT)
    denials = [Not(_at_path(path, Element(IsScalar()))) for path in absent]
    return all_of([*([_tree(present)] if present else []), *denials])


def _at_path(path: Path, test: Test) -> Test:
    for name in reversed(path):
        test = Element(Fields(((name, test),)))
    return test


def _tree(leaves: Iterable[tuple[Path, Test]]) -> Test:
    """Objects within objects, so that what shares a list is asked of one element of it."""
    groups: dict[str, list[tuple[Path, Test]]] = {}
    for (name, *inner), test in leaves:
        groups.setdefault(name, []).append((tuple(inner), test))
    return Element(Fields(tuple((name, _branch(group)) for name, group in groups.items())))


def _branch(group: list[tuple[Path, Test]]) -> Test:
    return _tree(group) if group[0][0] else group[0][1]


# --- writing ----------------------------------------------------------------------------------------------------------

_OBJECTS = frozenset({(), ("data",), ("metadata",)})
"""Places that hold an object in every event, never a list: there, conditions may be joined or taken apart."""


def write(test: Test) -> dict[str, Any]:
    """The pattern that asks the same. Raises FilterError where a pattern has no words for it."""
    if isinstance(test, AnyOf) and len(test.tests) > 1:
        return {_OR: [_pattern(rule) for rule in test.tests]}
    return _pattern(test)


def _pattern(test: Test) -> dict[str, Any]:
    pattern: dict[str, Any] = {}
    for part in test.tests if isinstance(test, AllOf) else (test,):
        if isinstance(part, Not):
            _join(pattern, _nested(_absent(part), [{"exists": False}]), (), apart=True)
        else:
            _join(pattern, _object(part, ()), (), apart=False)
    return pattern


def _object(test: Test, path: Path) -> Any:
    match test:
        case Element(Fields(members)):
            if not members or _OR in dict(members):
                _without_words(test, "that a field holds an object, or a condition on a field named $or")
            return {name: _object(member, (*path, name)) for name, member in members}
        case Element() | AnyOf() if path:
            return list(_members(test))
        case _:
            return _without_words(test)


def _absent(test: Not) -> Path:
    """The path of a leaf that may not be there."""
    path: list[str] = []
    inner = test.test
    while isinstance(inner, Element) and isinstance(inner.test, Fields) and len(inner.test.members) == 1:
        ((name, inner),) = inner.test.members
        path.append(name)
    if inner != Element(IsScalar()) or not path:
        _without_words(test)
    return tuple(path)


def _nested(path: Path, members: list[Any]) -> dict[str, Any]:
    *outer, last = path
    pattern: dict[str, Any] = {last: members}
    for name in reversed(outer):
        pattern = {name: pattern}
    return pattern


def _join(pattern: dict[str, Any], more: dict[str, Any], path: Path, *, apart: bool) -> None:
    """Add what was said separately.

    It may meet in one object where no list can be, or where it stands `apart` from lists anyway.
    """
    for name, value in more.items():
        if name not in pattern:
            pattern[name] = value
        elif not (isinstance(value, dict) and isinstance(pattern[name], dict)):
            _without_words((*path, name), "two things about one field")
        elif not apart and (*path, name) not in _OBJECTS:
            _without_words((*path, name), "that several conditions may be met by different elements of one list")
        else:
            _join(pattern[name], value, (*path, name), apart=apart)


def _members(test: Test) -> Iterator[Any]:
    match test:
        case AnyOf(tests):
            for part in tests:
                yield from _members(part)
        case Element(AnyOf(tests)):
            for part in tests:
                yield from _matchers(part)
        case Element(inner):
            yield from _matchers(inner)
        case _:
            _without_words(test)


def _matchers(test: Test) -> list[Any]:
    match test:
        case Equal(str(text)):
            number = number_in(text)
            return [text] if number is None else [text, thawed(number)]
        case Equal(operand) if not isinstance(operand, Ref) and not is_number(operand):
            return [operand]
        case OneOf(members):
            return [thawed(member) for member in members]
        case IsScalar():
            return [{"exists": True}]
        case AllOf((IsScalar(), Not(excluded))):
            return [{"anything-but": _exclusion(excluded)}]
        case _:
            return [_matcher(test)]


def _matcher(test: Test) -> dict[str, Any]:
    match test:
        case StartsWith(str(text), fold):
            return {"prefix": {"equals-ignore-case": text} if fold else text}
        case EndsWith(str(text), fold):
            return {"suffix": {"equals-ignore-case": text} if fold else text}
        case EqualFold(text):
            return {"equals-ignore-case": text}
        case Contains(text) if text:
            return {"wildcard": _with_stars(("", text, ""))}
        case Wildcard(parts):
            return {"wildcard": _with_stars(parts)}
        case InNetwork(network):
            return {"cidr": network}
        case Compare() | AllOf():
            return {"numeric": list(_bounds(test))}
        case _:
            return _without_words(test)


def _with_stars(parts: Iterable[str]) -> str:
    return "*".join(re.sub(r"([*\\])", r"\\\1", part) for part in parts)


def _bounds(test: Test) -> Iterator[Any]:
    for part in test.tests if isinstance(test, AllOf) else (test,):
        if not (isinstance(part, Compare) and part.strict and is_number(part.operand)):
            _without_words(part)
        yield part.operator
        yield thawed(part.operand)


def _exclusion(excluded: Test) -> Any:
    match excluded:
        case Equal(operand) if is_scalar(operand):
            return thawed(operand)
        case OneOf((only,)):
            return thawed(only)
        case OneOf(members):
            return [thawed(member) for member in members]
        case AnyOf(tests):
            matchers = [_matcher(test) for test in tests]
            ((key,),) = {tuple(matcher) for matcher in matchers}
            return {key: [matcher[key] for matcher in matchers]}
        case _:
            return _matcher(excluded)


def _without_words(where: Test | Path, what: str | None = None) -> NoReturn:
    without_words("an EventBridge pattern", where, what)
