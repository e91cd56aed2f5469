"""What each question asks, for the sentences that say a dialect has no words for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from waypost.core.filters import ast
from waypost.core.filters.errors import FilterError

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


def without_words(dialect: str, what: ast.Test | str) -> NoReturn:
    """Raise FilterError: the dialect cannot ask this."""
    raise FilterError(f"{dialect} cannot say {what if isinstance(what, str) else _MEANINGS[type(what)]}")
