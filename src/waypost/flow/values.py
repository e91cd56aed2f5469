"""The parts of a destination that a change is merged into (RFC 7396) rather than put in place of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, UnsetType, json

from waypost.connect import fields
from waypost.connect.connector import ConnectorType, DestinationType
from waypost.connect.fields import Field
from waypost.core.model import Destination
from waypost.core.retry import RetryOverrides
from waypost.flow import textmaps
from waypost.flow.draft import Draft
from waypost.flow.overrides import OverrideBounds, overrides
from waypost.flow.textmaps import Changes, Limits


class Values(Struct, frozen=True, kw_only=True):
    """The merged parts as they stand before or after a change."""

    config: dict[str, str]
    credentials: dict[str, str]
    delivery_metadata: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    retry_policy: RetryOverrides | None = None

    @classmethod
    def of(cls, destination: Destination | None) -> Values:
        """What stands in a destination; nothing, for one that is to be created."""
        if destination is None:
            return cls(config={}, credentials={})
        return cls(**{name: getattr(destination, name) for name in cls.__struct_fields__})

    def parts(self) -> dict[str, Any]:
        """The fields by name, to be laid over a destination."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def merged(
        self,
        kind: DestinationType,
        draft: Draft,
        limits: Limits,
        problems: list[str],
        tenants: OverrideBounds | None = None,
    ) -> Values:
        """These values with the draft's changes; what is wrong with the changes goes to `problems`.

        `tenants` are the bounds of a tenant's retry policy, None for the operator's.
        """
        return Values(
            config=merged_fields(kind.config_fields, self.config, draft.config, "config", problems),
            credentials=merged_fields(
                kind.credential_fields, self.credentials, draft.credentials, "credentials", problems
            ),
            delivery_metadata=textmaps.metadata(
                self.delivery_metadata,
                draft.delivery_metadata,
                where="delivery_metadata",
                limits=limits,
                problems=problems,
            ),
            metadata=textmaps.metadata(
                self.metadata, draft.metadata, where="metadata", limits=limits, problems=problems
            ),
            retry_policy=_retry_policy(self.retry_policy, draft.retry_policy, problems, tenants),
        )


def merged_fields(
    known: Sequence[Field], old: dict[str, str], changes: Changes, where: str, problems: list[str]
) -> dict[str, str]:
    """Config or credentials after a change; an empty text counts as a value that is not there."""
    if isinstance(changes, UnsetType):
        return old
    if changes is not None:
        changes = fields.unmask(known, old, changes)
        problems += _changes_of_read_only(known, old, changes, where)
    json_keys = {field.key for field in known if field.type == "key_value_map"}
    values = textmaps.texts(
        textmaps.merged(old, changes),
        where=where,
        problems=problems,
        convert=lambda key, value: textmaps.as_text_or_json(value) if key in json_keys else textmaps.as_text(value),
    )
    return {key: value for key, value in values.items() if value != ""}


def secrets_left_behind(
    kind: ConnectorType, old: Values, new: Values, config: Changes, credentials: Changes
) -> list[str]:
    """What is wrong with a tenant's change that sends stored secrets to another server: it has to tell them again.

    Whoever holds a token could otherwise have secrets that no answer shows sent to a server of their own.
    """
    parts = (
        ("config", kind.config_fields, old.config, new.config, config),
        ("credentials", kind.credential_fields, old.credentials, new.credentials, credentials),
    )
    moved = [f"{where}.{key}" for where, known, before, after, _ in parts for key in fields.moved(known, before, after)]
    if not moved:
        return []
    return [
        f"{where}.{name} has to be given anew, because {' and '.join(moved)} leads to another server"
        for where, known, before, _, sent in parts
        for name in _unrepeated(known, before, sent)
    ]


def _unrepeated(known: Sequence[Field], old: dict[str, str], sent: Changes) -> list[str]:
    return [] if sent is None else fields.unrepeated(known, old, {} if isinstance(sent, UnsetType) else sent)


def _changes_of_read_only(
    known: Sequence[Field], old: dict[str, str], changes: dict[str, Any], where: str
) -> list[str]:
    return [
        f"{where}.{field.key} is set by the server and cannot be changed"
        for field in known
        if field.read_only and field.key in changes and changes[field.key] != old.get(field.key)
    ]


def _retry_policy(
    old: RetryOverrides | None, changes: Changes, problems: list[str], tenants: OverrideBounds | None
) -> RetryOverrides | None:
    if isinstance(changes, UnsetType):
        return old
    standing: dict[str, Any] = {} if old is None else json.decode(json.encode(old))
    return overrides(textmaps.merged(standing, changes), problems=problems, standing=standing, tenants=tenants)
