"""Writes docs/destinations/ and docs/channels/ from the types themselves: `python scripts/generate_type_docs.py`.

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

from msgspec import Struct

from waypost.connect.connector import ConnectorType
from waypost.connect.fields import Field
from waypost.connect.registry import Channels, Registry, Types

HOME = Path(__file__).parent.parent
ROOT = HOME

DESTINATIONS = """\
# Destination types

Where a customer's events can go. Each page says what the customer sets up on the vendor's side, which fields there are
and how events look there. The same is served by `GET /api/v1/destination-types` and shown by the portal's forms.

Delivery is at least once: an attempt succeeds when the service itself has acknowledged the event, and an event can
arrive more than once. `POST /api/v1/tenants/{{tenant_id}}/destinations/{{destination_id}}/verify` checks credentials
and reachability without sending; `.../test` sends a marked test event and answers with its attempt.

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

CHANNELS = """\
# Alert channels

Where alerts and operator events can go: see [alerts](../alerts.md). Each page says what to set up on the service's side
and which fields there are. The same is served by `GET /api/v1/alert-channel-types`.

Beside these, **every [destination type](../destinations/README.md) is an alert channel too**, under the same name and
with the same fields: signed webhooks, SQS, SNS, Pub/Sub, RabbitMQ, Kafka ... They get the envelope of the operator
event as their body.

`POST /api/v1/alert-channels/{{channel_id}}/test` sends a test alert and answers with what came of it.

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
POST /api/v1/{path}

{example}
```
{proof}"""

PROVEN = """
## What it is tested against

{server}.

- What that proves: {proves}
- What it does not: {open}
"""


class Family(Struct, frozen=True, kw_only=True):
    """One kind of type: the folder of its pages and of its proofs, its index, and how one of it is created."""

    folder: str
    proofs: str
    index: str
    path: str
    begin: dict[str, Any]


FAMILIES: dict[type[Types[Any]], Family] = {
    Registry: Family(
        folder="destinations",
        proofs="destinations",
        index=DESTINATIONS,
        path="tenants/acme/destinations",
        begin={"topics": ["*"]},
    ),
    Channels: Family(
        folder="channels", proofs="alerts", index=CHANNELS, path="alert-channels", begin={"name": "on call"}
    ),
}


def documents(family: Family, types: Mapping[str, ConnectorType], proofs: Mapping[str, Any]) -> dict[str, str]:
    """The pages by file name."""
    pages = {f"{kind.type}.md": page(family, kind, proofs.get(kind.type)) for kind in types.values()}
    return {"README.md": index(family, list(types.values()), proofs), **pages}


def index(family: Family, types: Sequence[ConnectorType], proofs: Mapping[str, Any]) -> str:
    rows = (
        (f"[`{kind.type}`]({kind.type}.md)", kind.label, kind.description, _install(kind, proofs.get(kind.type)))
        for kind in types
    )
    proven = (
        (f"`{kind.type}`", *(proofs.get(kind.type, {}).get(name, "") for name in ("server", "proves", "open")))
        for kind in types
    )
    return family.index.format(types="\n".join(map(_row, rows)), proofs="\n".join(map(_row, proven)))


def page(family: Family, kind: ConnectorType, proof: Mapping[str, Any] | None) -> str:
    return PAGE.format(
        label=kind.label,
        description=kind.description,
        type=kind.type,
        install=f" It is {_install(kind, proof)}.",
        instructions=kind.instructions.strip(),
        fields=_fields("Configuration (`config`)", kind.config_fields)
        + "\n\n"
        + _fields("Credentials (`credentials`)", kind.credential_fields),
        path=family.path,
        example=json.dumps(example(family, kind), indent=2, ensure_ascii=False),
        proof=PROVEN.format(**{name: proof[name] for name in ("server", "proves", "open")}) if proof else "",
    )


def example(family: Family, kind: ConnectorType) -> dict[str, Any]:
    """The smallest body of a create: the required values, as their placeholders."""
    body = {
        "type": kind.type,
        **family.begin,
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


def _install(kind: ConnectorType, proof: Mapping[str, Any] | None) -> str:
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
    changed = 0
    for types, family in FAMILIES.items():
        proofs = tomllib.loads((HOME / "tests" / family.proofs / "proof.toml").read_text(encoding="utf-8"))
        target = ROOT / "docs" / family.folder
        wanted = documents(family, types.discover(), proofs)
        wrong = stale(target, wanted)
        changed += len(wrong)
        if "--check" not in arguments:
            write(target, wanted, wrong)
    return 1 if changed and "--check" in arguments else 0


def write(target: Path, wanted: Mapping[str, str], wrong: Sequence[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in wrong:
        if name in wanted:
            (target / name).write_text(wanted[name], encoding="utf-8")
        else:
            (target / name).unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
