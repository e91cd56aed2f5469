"""The fields of a destination type, said once: validation, form, OpenAPI, masking and docs are derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

FieldKind = Literal["text", "checkbox", "key_value_map", "select"]
"""What the published SDKs know; a number is text with a pattern."""

MASK = "*"
_SHOWN_OF_A_SECRET = 4
_SHORTEST_SECRET_TO_SHOW_OF = 10


class Option(Struct, frozen=True):
    label: str
    value: str


class Field(Struct, frozen=True, kw_only=True):
    """One value that a customer fills in. All values travel as text; `pattern` is an HTML5 pattern (whole match).

    `sensitive` values are masked in every answer. `read_only` values are set by Waypost and refused from outside unless
    they are unchanged. `advanced` fields are folded away in forms.
    """

    key: str
    label: str
    description: str
    type: FieldKind = "text"
    required: bool = False
    sensitive: bool = False
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


def mask(value: str) -> str:
    """A secret as it may be shown: the first four characters when it is long enough to spare them, then stars."""
    shown = _SHOWN_OF_A_SECRET if len(value) >= _SHORTEST_SECRET_TO_SHOW_OF else 0
    return value[:shown] + MASK * (len(value) - shown)


def redact(fields: Iterable[Field], values: Mapping[str, str]) -> dict[str, str]:
    """The values with the sensitive ones masked; a key that no field describes is masked too."""
    open_keys = {field.key for field in fields if not field.sensitive}
    return {key: value if key in open_keys else mask(value) for key, value in values.items()}


def unmask(fields: Iterable[Field], old: Mapping[str, str], new: Mapping[str, str | None]) -> dict[str, str | None]:
    """A change in which a masked secret, sent back as it was shown, means "unchanged"."""
    sensitive = {field.key for field in fields if field.sensitive}
    return {
        key: value
        for key, value in new.items()
        if not (key in sensitive and value is not None and key in old and value == mask(old[key]))
    }
