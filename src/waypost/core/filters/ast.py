"""The one form of all filters: a tree of questions about a value of the document.

A question is asked of the value at hand: the document at the root, what a field holds below `Fields`, one member of a
list below `Element`. Where a path finds nothing the value is MISSING, and conditions on it do not hold. Values are
frozen, so trees compare and hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from waypost.core.filters.values import Json, Scalar

Comparison = Literal["<", "<=", ">", ">="]

Path = tuple[str, ...]
"""The names of the fields that lead to a place of the document, lists on the way left out."""

CURRENT = -1
"""The step of a reference that stands for the position in the list being looked through (`[$index]`)."""


class Test(Struct, frozen=True):
    """A question about a value."""


class Ref(Struct, frozen=True):
    """Another place of the document as an operand. The n-th CURRENT is the position in the n-th list on the way."""

    path: tuple[str | int, ...]


# --- shape ------------------------------------------------------------------------------------------------------------


class Fields(Test, frozen=True):
    """An object whose named members answer their questions.

    Where nothing is there, its members are missing too: that answers when there is at least one question and all of
    them hold for MISSING.
    """

    members: tuple[tuple[str, Test], ...]


class Element(Test, frozen=True):
    """Some element of a list, however deeply lists are nested; a value that is no list counts as its own element."""

    test: Test


class Includes(Test, frozen=True):
    """A list in which each question is answered by some element."""

    tests: tuple[Test, ...]


# --- logic ------------------------------------------------------------------------------------------------------------


class AllOf(Test, frozen=True):
    tests: tuple[Test, ...]


class AnyOf(Test, frozen=True):
    tests: tuple[Test, ...]


class Not(Test, frozen=True):
    test: Test


# --- conditions -------------------------------------------------------------------------------------------------------


class Exists(Test, frozen=True):
    """There is a value, null included."""


class IsScalar(Test, frozen=True):
    """A text, number, boolean or null: a leaf of the document."""


class Equal(Test, frozen=True):
    """A scalar equal to the operand; a number also equals text that writes it."""

    operand: Scalar | Ref


class OneOf(Test, frozen=True):
    """A scalar that is one of these, types included: "5" is not 5."""

    members: tuple[Scalar, ...]


class Same(Test, frozen=True):
    """Deeply equal to the operand, types included; key order is of no account."""

    operand: Json


class Compare(Test, frozen=True):
    """In order with the operand: numbers by value, texts by code point, a number and numeric text as numbers.

    With `strict`, JSON numbers only.
    """

    operator: Comparison
    operand: Scalar | Ref
    strict: bool = False


class Contains(Test, frozen=True):
    """Text with the operand in it."""

    text: str


class FoundIn(Test, frozen=True):
    """One of the members of the list that the reference leads to, or text with the referenced text in it."""

    ref: Ref


class StartsWith(Test, frozen=True):
    """Text with this beginning; `fold` disregards case."""

    text: str | Ref
    fold: bool = False


class EndsWith(Test, frozen=True):
    """Text with this end; `fold` disregards case."""

    text: str | Ref
    fold: bool = False


class EqualFold(Test, frozen=True):
    """Text equal to the operand when case is disregarded (Unicode case folding)."""

    text: str


class Matches(Test, frozen=True):
    """Text in which the regular expression (RE2 syntax) finds something."""

    pattern: str


class Wildcard(Test, frozen=True):
    """Text made of these parts in order with anything between them; the first begins it, the last ends it."""

    parts: tuple[str, ...]


class InNetwork(Test, frozen=True):
    """Text that writes an IP address of this network (CIDR)."""

    network: str


EVERYTHING = Element(Fields(()))
"""The filter that every event passes."""


def all_of(tests: Iterable[Test]) -> Test:
    """The conjunction, flat; of one question, that question itself."""
    flat = tuple(_flattened(tests, AllOf))
    return flat[0] if len(flat) == 1 else AllOf(flat)


def any_of(tests: Iterable[Test]) -> Test:
    """The disjunction, flat; of one question, that question itself."""
    flat = tuple(_flattened(tests, AnyOf))
    return flat[0] if len(flat) == 1 else AnyOf(flat)


def _flattened(tests: Iterable[Test], kind: type[AllOf | AnyOf]) -> Iterator[Test]:
    for test in tests:
        if isinstance(test, kind):
            yield from test.tests
        else:
            yield test


def below(test: Test) -> tuple[Test, ...]:
    """The questions that this one is made of."""
    match test:
        case Fields(members):
            return tuple(member for _, member in members)
        case Element(inner) | Not(inner):
            return (inner,)
        case AllOf(tests) | AnyOf(tests) | Includes(tests):
            return tests
        case _:
            return ()


def every(test: Test) -> Iterator[Test]:
    """This question and all within it, each before what it is made of."""
    pending = [test]
    while pending:
        part = pending.pop()
        yield part
        pending += reversed(below(part))


def place_of(part: Test, whole: Test) -> Path | None:
    """The place that a question within a whole one asks about; None when it is not one of its parts."""
    if part is whole:
        return ()
    named = whole.members if isinstance(whole, Fields) else [(None, inner) for inner in below(whole)]
    for name, inner in named:
        place = place_of(part, inner)
        if place is not None:
            return place if name is None else (name, *place)
    return None


def ref_of(test: Test) -> Ref | None:
    """The other place of the document that a condition compares with."""
    match test:
        case Equal(Ref() as ref) | Compare(_, Ref() as ref) | StartsWith(Ref() as ref) | EndsWith(Ref() as ref):
            return ref
        case FoundIn(ref):
            return ref
        case _:
            return None


def refs(test: Test) -> Iterator[Ref]:
    """The references to other places of the document."""
    return (ref for ref in map(ref_of, every(test)) if ref is not None)
