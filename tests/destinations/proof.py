"""What stands beside the tests in proof.toml, and values for a destination of any type."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from waypost.connect.connector import DestinationType
from waypost.connect.fields import Field, entries_of

FILE = Path(__file__).with_name("proof.toml")


def proofs() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


class Sample(Struct, frozen=True):
    """Values that make a destination which can be saved: what is required, and every secret."""

    config: dict[str, str]
    credentials: dict[str, str]

    def secrets(self, kind: DestinationType) -> list[str]:
        described = ((kind.config_fields, self.config), (kind.credential_fields, self.credentials))
        return [
            secret
            for known, values in described
            for field in known
            if field.sensitive and field.key in values
            for secret in _secrets_in(field, values[field.key])
        ]


def _secrets_in(field: Field, value: str) -> list[str]:
    return list((entries_of(value) or {}).values()) if field.type == "key_value_map" else [value]


def sample(kind: DestinationType) -> Sample:
    """From the form alone, with what proof.toml adds; so that a type of anybody's has one."""
    given = proofs().get(kind.type, {}).get("sample", {})
    return Sample(
        _values(kind.config_fields, given.get("config", {})),
        _values(kind.credential_fields, given.get("credentials", {})),
    )


def _values(fields: Sequence[Field], given: dict[str, str]) -> dict[str, str]:
    made = {field.key: _value(field) for field in fields if field.required or field.sensitive}
    return {key: value for key, value in (made | given).items() if value}


def _value(field: Field) -> str:
    invented = f"S3cret-{field.key}-0123456789" if field.sensitive else f"sample-{field.key}"
    if field.type == "key_value_map":
        invented = json.dumps({"x-sample": invented})
    first_option = field.options[0].value if field.options else None
    found = field.default or first_option or (None if field.sensitive else field.placeholder) or invented
    assert field.problem(field.key, found) is None, f"give {field.key} a placeholder that passes, or a sample"
    return found
