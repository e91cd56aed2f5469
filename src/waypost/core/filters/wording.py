"""What each question asks, for the sentences that say a dialect has no words for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from waypost.core.filters import ast
from waypost.core.filters.errors import FilterError
from waypost.core.filters.paths import written

_MEANINGS: Mapping[type[ast.Test], str] = MappingProxyType(
    {
        ast.AllOf: "that several conditions hold for one value",
        ast.AnyOf: "that one of several conditions holds here",
        ast.Compare: "that a value is ordered in this way (with another field, as text, or with JSON numbers only)",
        ast.Contains: "that a text contains another",
        ast.Element: "that the elements of a list are looked through here",
        ast.EndsWith: "that a text ends so",
        ast.Equal: "that a value is equal in this way (to another field, or a number to numeric text)",
        ast.EqualFold: "that texts are equal when case is disregarded",
        ast.Exists: "that a field exists whatever it holds",
        ast.Fields: "that a field holds an object",
        ast.FoundIn: "that a value is found in another field",
        ast.Includes: "that a list includes several values",
        ast.InNetwork: "that an address is in a network",
        ast.IsScalar: "that a field holds a text, number, boolean or null and no object",
        ast.Matches: "that a text matches a regular expression",
        ast.Not: "that this condition does not hold",
        ast.OneOf: "that a value is one of a list, types included",
        ast.Same: "that a field equals an object or a list",
        ast.StartsWith: "that a text begins so when case is disregarded, or as another field does",
        ast.Wildcard: "that a text matches a wildcard",
    }
)


class NoWords(FilterError):
    """A dialect cannot ask one of a filter's questions: the question itself, or the place that it asks about."""

    def __init__(self, sentence: str, where: ast.Test | ast.Path) -> None:
        super().__init__(sentence)
        self.where = where

    def of(self, whole: ast.Test) -> FilterError:
        """The same about the whole filter, naming the place."""
        place = ast.place_of(self.where, whole) if isinstance(self.where, ast.Test) else self.where
        return FilterError(f"{self.sentence}, as is asked of {written(place)}" if place else self.sentence)


def without_words(dialect: str, where: ast.Test | ast.Path, what: str | None = None) -> NoReturn:
    """Raise NoWords: the dialect cannot ask this question, or not `what` it would ask there."""
    meaning = _MEANINGS[type(where)] if isinstance(where, ast.Test) else "this"
    raise NoWords(f"{dialect} cannot say {what or meaning}", where)
