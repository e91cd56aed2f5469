"""How values of settings are written: each text means what its type says, or is refused with a sentence.

Lists are written `a,b` or as a JSON array, maps `a=b,c=d` or as a JSON object; in a TOML file as its arrays and tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from waypost.core import codes, topics

_YEAR = 31_536_000
_QUOTES = "\"'"
_PUNCTUATION = set("\"'[]{};")


def listed(value: object) -> object:
    """The items of a list that is written as text."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json(value, list, "a JSON array or items separated by commas")
    return tuple(part.strip() for part in value.split(",") if part.strip())


def paired(value: object) -> object:
    """The pairs of a map that is written as text."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return _json(value, dict, "a JSON object or pairs like topic=x-topic, separated by commas")
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and text.strip() for name, _, text in pairs):
        raise ValueError("must be pairs like topic=x-topic, separated by commas")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _table(value: object) -> object:
    return _json(value, dict, "a JSON object") if isinstance(value, str) else value


def _json(text: str, shape: type, wanted: str) -> Any:
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        raise ValueError(f"must be {wanted}") from None
    if not isinstance(found, shape):
        raise ValueError(f"must be {wanted}")  # noqa: TRY004  pydantic makes a sentence of a ValueError
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ip_network(value, strict=False)) for value in values)


def _topic_names(values: tuple[str, ...]) -> tuple[str, ...]:
    return _each(values, topics.is_topic, "a topic name")


def _codes(values: tuple[str, ...]) -> tuple[str, ...]:
    return _each(values, codes.is_code, f"one of the {codes.MEANING}")


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    return _each(values, _is_name, "a name")


def _names_of(pairs: dict[str, Any]) -> dict[str, Any]:
    _names(tuple(pairs))
    return pairs


def _each(values: tuple[str, ...], is_right: Any, wanted: str) -> tuple[str, ...]:
    wrong = next((value for value in values if not is_right(value)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not {wanted}")
    return values


def _is_name(text: str) -> bool:
    return text.isprintable() and bool(text) and " " not in text and _PUNCTUATION.isdisjoint(text)


def _growing(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must grow from each number to the next")
    return values


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or not value.isprintable() or " " in value:
        raise ValueError("must be a URL such as https://events.example.com")
    return value


Strings = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)]
Names = Annotated[Strings, AfterValidator(_names)]
Topics = Annotated[Strings, AfterValidator(_topic_names)]
Networks = Annotated[Strings, AfterValidator(_networks)]
Codes = Annotated[Strings, AfterValidator(_codes)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(listed)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(paired), AfterValidator(_names_of)]
SecretPairs = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(paired), AfterValidator(_names_of)]
Table = Annotated[dict[str, Any], NoDecode, BeforeValidator(_table)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Seconds = Annotated[float, Field(gt=0, le=_YEAR, allow_inf_nan=False)]
Waits = Annotated[tuple[Seconds, ...], NoDecode, BeforeValidator(listed)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Percent = Annotated[int, Field(ge=1, le=100)]
Steps = Annotated[tuple[Percent, ...], NoDecode, BeforeValidator(listed), AfterValidator(_growing)]
Part = Annotated[float, Field(ge=0, le=1)]
Age = Annotated[int, Field(ge=0, le=10 * _YEAR)]


def is_quoted(text: str) -> bool:
    """Whether quotation marks around a value would be taken for a part of it: no shell has taken them away."""
    return len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES


def as_toml(name: str, value: Any) -> str:
    """The line of a TOML file that sets it; a comment for what is not set or secret."""
    secret = _secret_in(value)
    if value is None or secret:
        return f"# {name} is {'set, and secret' if secret else 'not set'}"
    return f"{name} = {_toml(value)}"


def _secret_in(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_secret_in, value.values()))
    return isinstance(value, SecretStr) or (isinstance(value, tuple) and any(map(_secret_in, value)))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(_members(value))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _members(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_toml(name)} = {_toml(value)}" for name, value in table.items())
