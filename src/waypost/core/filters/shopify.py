r"""Shopify query text: `vendor:"Nike Inc" AND variants.price:>=10.00`.

    Query      = Term { WS [ "AND" | "OR" ] Term }        an omitted connective is AND; OR binds tighter than AND
    Term       = [ "-" | "NOT" WS ] ( "(" Query ")" | name Comparator value )
    Comparator = ":" | ":<" | ":>" | ":<=" | ":>="
    name       = part { "." part }
    value      = "*" | word [ "*" ] | quoted [ "*" ]

A bare word is the boolean, null or number that JSON would read, else a text; a quoted one is always a text, though a
range takes numeric text as the number. `*` alone asks for existence, at the end for a beginning. A backslash takes the
next character literally. A name starts at the payload; `metadata.` and the name `topic` reach outside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from waypost.core.filters.ast import (
    AllOf,
    AnyOf,
    Compare,
    Comparison,
    Element,
    Equal,
    Exists,
    Fields,
    Not,
    OneOf,
    Path,
    Ref,
    StartsWith,
    Test,
    all_of,
    any_of,
)
from waypost.core.filters.errors import FilterError
from waypost.core.filters.limits import FilterLimits
from waypost.core.filters.values import Scalar, is_number, is_plain, json_number_in, number_in
from waypost.core.filters.wording import without_words

_SPACE = re.compile(r"\s*")
_KEYWORD = re.compile(r"(AND|OR|NOT)(?=[\s()]|$)")
_PART = re.compile(r"""(?!-)(?:\\.|[^\s\\:.()"'*<>=])+""", re.DOTALL)
_COMPARATOR = re.compile(r":(<=|>=|<|>)?")
_BARE = re.compile(r"""(?![<>=])(?:\\.|[^\s\\:()"'*])+""", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"' + r"|'((?:\\.|[^'\\])*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_\-/@+]*")
_CONSTANTS: Mapping[str, Scalar] = MappingProxyType({"true": True, "false": False, "null": None})


def parse(query: str, limits: FilterLimits) -> Test:
    """Read a query. Raises FilterError with the position of the fault. The caller has bounded its length."""
    return _Reader(query, limits).whole()


class _Reader:
    """A recursive-descent reader: one method for each line of the grammar, `_at` is where it stands in the text."""

    def __init__(self, query: str, limits: FilterLimits) -> None:
        self._text = query
        self._limits = limits
        self._at = 0
        self._depth = 0

    def whole(self) -> Test:
        test = self._query()
        if self._at < len(self._text):
            self._fail("this parenthesis was never opened")
        return test

    def _query(self) -> Test:
        conjuncts = [self._alternatives()]
        while not self._ended():
            self._keyword("AND")
            conjuncts.append(self._alternatives())
        return all_of(conjuncts)

    def _alternatives(self) -> Test:
        terms = [self._term()]
        while self._keyword("OR"):
            terms.append(self._term())
        return any_of(terms)

    def _term(self) -> Test:
        self._skip_space()
        if self._keyword("NOT") or self._taken("-"):
            return Not(self._positive())
        return self._positive()

    def _positive(self) -> Test:
        self._skip_space()
        if self._taken("("):
            return self._group()
        return self._condition()

    def _group(self) -> Test:
        opened = self._at - 1
        self._depth += 1
        if self._depth > self._limits.max_depth:
            self._fail(f"parentheses are nested deeper than {self._limits.max_depth} levels", opened)
        test = self._query()
        if not self._taken(")"):
            self._fail("this parenthesis is never closed", opened)
        self._depth -= 1
        return test

    def _condition(self) -> Test:
        start = self._at
        names = self._names()
        comparator = _COMPARATOR.match(self._text, self._at)
        if comparator is None:
            self._fail('a field name is followed by ":" and a value', self._at if names else start)
        self._at = comparator.end()
        return _found_at(_place(names), self._value(comparator[1]))

    def _names(self) -> list[str]:
        names = [self._name()]
        while self._taken("."):
            names.append(self._name())
            if len(names) > self._limits.max_depth:
                self._fail(f"the path has more than {self._limits.max_depth} parts")
        return names

    def _name(self) -> str:
        if _KEYWORD.match(self._text, self._at):
            self._fail("a condition is missing here")
        part = _PART.match(self._text, self._at)
        if part is None:
            self._fail("a field name is missing here")
        self._check_escapes(part)
        self._at = part.end()
        return _ESCAPED.sub(r"\1", part[0])

    def _value(self, comparator: str | None) -> Test:
        start = self._at
        word = self._quoted() or self._bare()
        prefix = self._taken("*")
        self._end_of_value(prefix=prefix)
        if comparator is None:
            return _equality(word, prefix=prefix)
        if prefix or word is None:
            self._fail("a range is followed by one value, without *", start)
        return Element(Compare(_comparison(comparator), self._bound(word, start)))

    def _bound(self, word: tuple[str, bool], start: int) -> Scalar:
        number = number_in(word[0])
        if number is None and not word[1] and word[0] in _CONSTANTS:
            self._fail(f"{word[0]} has no order", start)
        return word[0] if number is None else number

    def _quoted(self) -> tuple[str, bool] | None:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            if self._text[self._at : self._at + 1] in ('"', "'"):
                self._fail("this quote is never closed")
            return None
        self._check_escapes(found)
        self._at = found.end()
        return _ESCAPED.sub(r"\1", found[1] if found[1] is not None else found[2]), True

    def _bare(self) -> tuple[str, bool] | None:
        found = _BARE.match(self._text, self._at)
        if found is None:
            if self._text[self._at : self._at + 1] != "*":
                self._fail("a value is missing here")
            return None
        self._check_escapes(found)
        self._at = found.end()
        return _ESCAPED.sub(r"\1", found[0]), "\\" in found[0]

    def _end_of_value(self, *, prefix: bool) -> None:
        following = self._text[self._at : self._at + 1]
        if prefix and following not in ("", ")") and not following.isspace():
            self._fail("* stands alone or at the end of a value; quote a value that has one elsewhere", self._at - 1)
        if following and not following.isspace() and following != ")":
            self._fail(f"{following} cannot stand here in a value; quote the value, or write \\{following}")

    def _check_escapes(self, found: re.Match[str]) -> None:
        for escape in _ESCAPED.finditer(found[0]):
            if escape[1].isalnum():
                self._fail("a backslash stands before a sign, not a letter or digit", found.start() + escape.start())

    def _ended(self) -> bool:
        self._skip_space()
        return self._at == len(self._text) or self._text[self._at] == ")"

    def _keyword(self, keyword: str) -> bool:
        self._skip_space()
        found = _KEYWORD.match(self._text, self._at)
        if found is None or found[1] != keyword:
            return False
        self._at = found.end()
        return True

    def _taken(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _fail(self, sentence: str, position: int | None = None) -> NoReturn:
        raise FilterError(sentence, pointer=("query",), position=self._at if position is None else position)


def _place(names: list[str]) -> tuple[str, ...]:
    """The document's path for a name as written."""
    outside = names == ["topic"] or (names[0] == "metadata" and len(names) > 1)
    return tuple(names) if outside else ("data", *names)


def _found_at(path: tuple[str, ...], test: Test) -> Test:
    for name in reversed(path):
        test = Element(Fields(((name, test),)))
    return test


def _equality(word: tuple[str, bool] | None, *, prefix: bool) -> Test:
    if word is None:
        return Exists()
    text, quoted = word
    if prefix:
        return Element(StartsWith(text))
    return Element(Equal(text if quoted else _literal(text)))


def _literal(word: str) -> Scalar:
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    number = json_number_in(word)
    return word if number is None else number


def _comparison(sign: str) -> Comparison:
    operators: dict[str, Comparison] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
    return operators[sign]


# --- writing ----------------------------------------------------------------------------------------------------------

_OBJECTS = frozenset({(), ("data",), ("metadata",)})
"""Places that hold an object in every event, never a list: what is said of them may be said in parts."""


def write(test: Test) -> str:
    """The query that asks the same. Raises FilterError where a query has no words for it."""
    return _written(test, (), alone=False)


def _written(  # noqa: C901, PLR0911  # one case for each kind of question
    test: Test, path: tuple[str, ...], *, alone: bool
) -> str:
    """`alone` within a list's element: there a query can ask one thing only, since each condition finds its own."""
    match test:
        case Element(Equal() | Compare() | StartsWith() as condition):
            return f"{_name(path)}:{_operand(condition)}"
        case Element(OneOf(members)) if members and all(map(is_plain, members)):
            return _written(AnyOf(tuple(Element(Equal(member)) for member in members)), path, alone=alone)
        case Element(AnyOf(tests)):
            return _written(AnyOf(tuple(map(Element, tests))), path, alone=alone)
        case Element(inner):
            return _written(inner, path, alone=alone or path not in _OBJECTS)
        case Exists():
            return f"{_name(path)}:*"
        case Fields(members) if members:
            return _conjunction(test, [(member, (*path, name)) for name, member in members], alone=alone)
        case AllOf(tests) if tests:
            return _conjunction(test, [(part, path) for part in tests], alone=alone)
        case AnyOf(tests) if tests:
            return " OR ".join(_grouped(_written(part, path, alone=alone)) for part in tests)
        case Not(inner) if not alone:
            return "-" + _grouped(_written(inner, path, alone=False), negated=True)
        case Not():
            return _without_words(test, "that a condition fails for one element of a list and not for the whole list")
        case _:
            return _without_words(test)


def _conjunction(test: Test, parts: list[tuple[Test, tuple[str, ...]]], *, alone: bool) -> str:
    if len(parts) == 1:
        return _written(*parts[0], alone=alone)
    if alone:
        _without_words(test, "that one element of a list meets several conditions: each may find its own element")
    return " AND ".join(_grouped(_written(part, path, alone=False)) for part, path in parts)


def _grouped(text: str, *, negated: bool = False) -> str:
    """In parentheses where it is made of several terms, or is a negation to be negated."""
    several = " AND " in text or " OR " in text
    return f"({text})" if several or (negated and text.startswith("-")) else text


def _name(path: tuple[str, ...]) -> str:
    if path[:1] == ("data",) and len(path) > 1:
        inner = path[1:]
        if _place(list(inner)) == path:
            return ".".join(map(_escaped_name, inner))
    elif path and _place(list(path)) == path:
        return ".".join(map(_escaped_name, path))
    return _without_words((), f"a condition on {'.'.join(path) or 'the event as a whole'}")


def _escaped_name(name: str) -> str:
    if not name:
        _without_words((), "a condition on a field with an empty name")
    return re.sub(r"""(^-|[\s\\:.()"'*<>=])""", r"\\\1", name)


def _operand(condition: Test) -> str:
    match condition:
        case StartsWith(str(text), fold) if not fold:
            return _quoted_text(text) + "*"
        case Equal(operand) if not isinstance(operand, Ref):
            return _word(operand)
        case Compare(operator, operand, strict) if not strict and not isinstance(operand, Ref):
            if isinstance(operand, str) and number_in(operand) is not None:
                _without_words(condition, "that numeric text is compared as text")
            return operator + _word(operand)
        case _:
            return _without_words(condition)


def _word(value: Scalar) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value not in _CONSTANTS else _quoted_text(value)
    if is_number(value):
        return str(value)
    return next(word for word, constant in _CONSTANTS.items() if constant is value)


def _quoted_text(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _without_words(where: Test | Path, what: str | None = None) -> NoReturn:
    without_words("a Shopify query", where, what)
