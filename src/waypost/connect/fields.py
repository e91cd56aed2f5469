"""The fields of a destination type, said once: validation, form, OpenAPI, masking and docs are derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from waypost.core.errors import Invalid

FieldKind = Literal["text", "checkbox", "key_value_map", "select"]
"""What the published SDKs know; a number is text with a pattern."""

MASK = "*"
_MASK_LENGTH = 12
_SHOWN_OF_A_SECRET = 4
_SHORTEST_SECRET_TO_SHOW_OF = 10


class Option(Struct, frozen=True):
    label: str
    value: str


class Field(Struct, frozen=True, kw_only=True):
    """One value that a customer fills in. All values travel as text; `pattern` is an HTML5 pattern (whole match).

    `sensitive` values are masked in every answer and sealed at rest; of a sensitive `key_value_map`, each value is
    masked by itself. `locates` says that the value decides to which server secrets are sent. `read_only` values are set
    by Waypost and refused from outside unless they are unchanged. `advanced` fields are folded away in forms.
    """

    key: str
    label: str
    description: str
    type: FieldKind = "text"
    required: bool = False
    sensitive: bool = False
    locates: bool = False
    read_only: bool = False
    advanced: bool = False
    default: str | None = None
    placeholder: str | None = None
    minlength: int | None = None
    maxlength: int | None = None
    pattern: str | None = None
    pattern_hint: str | None = None
    options: tuple[Option, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The field as `GET /destination-types` shows it; what is not set is left out."""
        shown: dict[str, Any] = {
            "key": self.key,
            "type": self.type,
            "label": self.label,
            "description": self.description,
            "required": self.required,
            "sensitive": self.sensitive,
        }
        optional = ("default", "placeholder", "minlength", "maxlength", "pattern", "pattern_hint")
        shown |= {name: value for name in optional if (value := getattr(self, name)) is not None}
        shown |= {name: True for name in ("read_only", "advanced") if getattr(self, name)}
        if self.options:
            shown["options"] = [{"label": option.label, "value": option.value} for option in self.options]
        return shown

    def problem(self, path: str, value: str) -> str | None:
        """What is wrong with a value, as a sentence that starts with the field's path; None when nothing is."""
        if self.minlength is not None and len(value) < self.minlength:
            return f"{path} must be at least {self.minlength} characters"
        if self.maxlength is not None and len(value) > self.maxlength:
            return f"{path} must be at most {self.maxlength} characters"
        if self.options and value not in {option.value for option in self.options}:
            return f"{path} must be one of: {', '.join(option.value for option in self.options)}"
        if self.type == "checkbox" and value not in {"true", "false"}:
            return f"{path} must be one of: true, false"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            hint = f": {self.pattern_hint}" if self.pattern_hint else ""
            return f"{path} failed pattern validation{hint}"
        return None


def problems(
    fields: Iterable[Field], values: Mapping[str, str], *, where: str, what: str = "destination type"
) -> list[str]:
    """Every rule that the values break, unknown keys included. `where` is `config` or `credentials`."""
    known = {field.key: field for field in fields}
    found = [f"{where}.{key} is not a field of this {what}" for key in values if key not in known]
    for key, field in known.items():
        value = values.get(key, "")
        if value == "":
            if field.required:
                found.append(f"{where}.{key} is required")
            continue
        problem = field.problem(f"{where}.{key}", value)
        if problem:
            found.append(problem)
    return found


def refuse_larger(wanted: Struct, most: int, what: str) -> None:
    """Raises Invalid for a destination or channel that is larger than so many bytes of JSON."""
    if len(msgspec.json.encode(wanted)) > most:
        raise Invalid([f"{what} must be at most {most} bytes, all its parts together as JSON"])


def secret_keys(fields: Iterable[Field]) -> frozenset[str]:
    return frozenset(field.key for field in fields if field.sensitive)


def mask(value: str) -> str:
    """A secret as it may be shown: its first four characters when it is long enough to spare them, then stars.

    All masks are of one length, so that none tells how long the secret is.
    """
    shown = _SHOWN_OF_A_SECRET if len(value) >= _SHORTEST_SECRET_TO_SHOW_OF else 0
    return value[:shown].ljust(_MASK_LENGTH, MASK)


def redact(fields: Iterable[Field], values: Mapping[str, str]) -> dict[str, str]:
    """The values with the sensitive ones masked; a key that no field describes is masked too."""
    known = {field.key: field for field in fields}
    return {key: _redacted(known.get(key), value) for key, value in values.items()}


def _redacted(field: Field | None, value: str) -> str:
    if field is not None and not field.sensitive:
        return value
    entries = entries_of(value) if field is not None and field.type == "key_value_map" else None
    return mask(value) if entries is None else _json({name: mask(text) for name, text in entries.items()})


def unmask(fields: Iterable[Field], old: Mapping[str, str], new: Mapping[str, Any]) -> dict[str, Any]:
    """A change in which a masked secret, sent back as it was shown, means "unchanged"."""
    secret = {field.key: field for field in fields if field.sensitive and field.key in old}
    return {
        key: _unmasked(secret[key], old[key], value) if key in secret else value
        for key, value in new.items()
        if not (key in secret and value == mask(old[key]))
    }


def _unmasked(field: Field, old: str, new: Any) -> Any:
    before, after = entries_of(old), entries_of(new)
    if field.type != "key_value_map" or not before or not after:
        return new
    meant = {name: before[name] if _is_masked(before, name, text) else text for name, text in after.items()}
    return old if meant == before else _json(meant)


def unrepeated(fields: Iterable[Field], old: Mapping[str, str], new: Mapping[str, Any]) -> list[str]:
    """The stored secrets that a change neither tells again nor takes away; those of a map as `key.name`."""
    return [name for field in fields if field.sensitive and field.key in old for name in _left(field, old, new)]


def _left(field: Field, old: Mapping[str, str], new: Mapping[str, Any]) -> list[str]:
    key = field.key
    if key not in new or new[key] == mask(old[key]):
        return [key]
    before, after = entries_of(old[key]), entries_of(new[key])
    if field.type != "key_value_map" or not before or not after:
        return []
    return [f"{key}.{name}" for name, text in after.items() if _is_masked(before, name, text)]


def moved(fields: Iterable[Field], old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The keys whose values lead to another server than before."""
    return [field.key for field in fields if field.locates and _server(old, field) != _server(new, field)]


def _server(values: Mapping[str, str], field: Field) -> str:
    """The part of a value that says where to connect: a URL without its path; all of anything else."""
    value = values.get(field.key) or field.default or ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return value
    return f"{parts.scheme}://{parts.netloc.lower()}" if parts.netloc and "," not in value else value


def _is_masked(before: Mapping[str, str], name: str, text: object) -> bool:
    return name in before and text == mask(before[name])


def entries_of(value: object) -> dict[str, str] | None:
    """The entries of a `key_value_map`, as text or as an object; None when it is neither with texts alone."""
    try:
        return msgspec.json.decode(value, type=dict[str, str]) if isinstance(value, str) else _texts(value)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _texts(value: object) -> dict[str, str]:
    return msgspec.convert(value, dict[str, str])


def _json(entries: Mapping[str, str]) -> str:
    return msgspec.json.encode(entries).decode()
