"""Writes docs/destinations/ from the destination types themselves: `python scripts/generate_destination_docs.py`.

One page a type and an index. What the types are tested against stands beside their tests, in proof.toml. With `--check`
nothing is written, and the status is 1 when a page is not what it would be.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from waypost.connect.connector import DestinationType
from waypost.connect.fields import Field
from waypost.connect.registry import Registry

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "destinations"
PROOF = ROOT / "tests" / "destinations" / "proof.toml"

INDEX = """\
# Destination types

Where a customer's events can go. Each page says what the customer sets up on the vendor's side, which fields there are
and how events look there. The same is served by `GET /api/v1/destination-types` and shown by the portal's forms.

Delivery is at least once: an attempt succeeds when the service itself has acknowledged the event, and an event can
arrive more than once. `POST /api/v1/tenants/{tenant_id}/destinations/{destination_id}/verify` checks credentials and
reachability without sending; `.../test` sends a marked test event and answers with its attempt.

Beside the data travel `timestamp`, `event-id` and `topic`, the destination's `delivery_metadata` and the event's own
`metadata`.

| Type | Name | What it does | Install |
|---|---|---|---|
{types}

## What each is tested against

| Type | Server | What that proves | What it does not |
|---|---|---|---|
{proofs}
"""

PAGE = """\
# {label}

{description}

Type `{type}`.{install}

## What to set up

{instructions}

{fields}

## Creating one

```http
POST /api/v1/tenants/acme/destinations

{example}
```
{proof}"""

PROVEN = """
## What it is tested against

{server}.

- What that proves: {proves}
- What it does not: {open}
"""


def documents(types: Mapping[str, DestinationType], proofs: Mapping[str, Any]) -> dict[str, str]:
    """The pages by file name."""
    pages = {f"{kind.type}.md": page(kind, proofs.get(kind.type)) for kind in types.values()}
    return {"README.md": index(list(types.values()), proofs), **pages}


def index(types: Sequence[DestinationType], proofs: Mapping[str, Any]) -> str:
    rows = (
        (f"[`{kind.type}`]({kind.type}.md)", kind.label, kind.description, _install(kind, proofs.get(kind.type)))
        for kind in types
    )
    proven = (
        (f"`{kind.type}`", *(proofs.get(kind.type, {}).get(name, "") for name in ("server", "proves", "open")))
        for kind in types
    )
    return INDEX.format(
        tenant_id="{tenant_id}",
        destination_id="{destination_id}",
        types="\n".join(map(_row, rows)),
        proofs="\n".join(map(_row, proven)),
    )


def page(kind: DestinationType, proof: Mapping[str, Any] | None) -> str:
    return PAGE.format(
        label=kind.label,
        description=kind.description,
        type=kind.type,
        install=f" It is {_install(kind, proof)}.",
        instructions=kind.instructions.strip(),
        fields=_fields("Configuration (`config`)", kind.config_fields)
        + "\n\n"
        + _fields("Credentials (`credentials`)", kind.credential_fields),
        example=json.dumps(example(kind), indent=2, ensure_ascii=False),
        proof=PROVEN.format(**{name: proof[name] for name in ("server", "proves", "open")}) if proof else "",
    )


def example(kind: DestinationType) -> dict[str, Any]:
    """The smallest body of a create: the required values, as their placeholders."""
    body = {
        "type": kind.type,
        "topics": ["*"],
        "config": _placeholders(kind.config_fields),
        "credentials": _placeholders(kind.credential_fields),
    }
    return {name: value for name, value in body.items() if value}


def _placeholders(fields: Sequence[Field]) -> dict[str, str]:
    return {
        field.key: field.placeholder or field.default or (field.options[0].value if field.options else "...")
        for field in fields
        if field.required
    }


def _fields(title: str, fields: Sequence[Field]) -> str:
    if not fields:
        return f"## {title}\n\nNone."
    rows = ((f"`{field.key}`", field.label, _described(field)) for field in fields)
    return f"## {title}\n\n| Key | Name | What it is |\n|---|---|---|\n" + "\n".join(map(_row, rows))


def _described(field: Field) -> str:
    said = [
        field.description,
        "**Required.**" if field.required else "",
        "Secret: masked in every answer." if field.sensitive else "",
        "Set by the server." if field.read_only else "",
        f"One of {', '.join(f'`{option.value}`' for option in field.options)}." if field.options else "",
        "`true` or `false`." if field.type == "checkbox" else "",
        f"Default: `{field.default}`." if field.default is not None else "",
    ]
    return " ".join(part for part in said if part)


def _install(kind: DestinationType, proof: Mapping[str, Any] | None) -> str:
    if not kind.extra:
        return "included"
    extra = f"`pip install 'waypost[{kind.extra}]'`"
    sometimes = (proof or {}).get("needs_extra") == "sometimes"
    return f"included; some options need {extra}" if sometimes else f"installed by {extra}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def stale(target: Path, wanted: Mapping[str, str]) -> list[str]:
    """The files that are missing, different, or of a type that is no more."""
    standing = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.md")}
    return sorted(name for name in standing.keys() | wanted.keys() if standing.get(name) != wanted.get(name))


def main(arguments: Sequence[str]) -> int:
    wanted = documents(Registry.discover(), tomllib.loads(PROOF.read_text(encoding="utf-8")))
    wrong = stale(TARGET, wanted)
    if "--check" in arguments:
        return 1 if wrong else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in wrong:
        if name in wanted:
            (TARGET / name).write_text(wanted[name], encoding="utf-8")
        else:
            (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
