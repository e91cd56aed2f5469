"""Tenants and destinations: created, changed, enabled, disabled, deleted (specification, section 4.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType, structs

from waypost.connect import fields
from waypost.connect.connector import Change, DestinationType, Tools
from waypost.connect.registry import Registry
from waypost.core import filters
from waypost.core import topics as topic_names
from waypost.core.errors import Conflict, Forbidden, Invalid, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import SYSTEM, Actor, Destination, Disabling, Micros, TenantSummary
from waypost.flow import textmaps
from waypost.flow.clock import token
from waypost.flow.draft import Draft, Rules, id_problem, read, sent
from waypost.flow.filtering import FilterReader, beside
from waypost.flow.overrides import HARD, OverrideBounds
from waypost.flow.subscribing import taken
from waypost.flow.textmaps import Limits
from waypost.flow.values import Values, secrets_left_behind
from waypost.store.alerting import Entry
from waypost.store.base import Page, Slice, Store

_TRIES_AGAINST_OTHERS = 10


class Manager:
    """All rules about tenants and destinations, which are named by the tenants' keys.

    `changed` hears a tenant's key after every committed change, and the number of the destination if it is about one;
    `deleted` hears it after the tenant's deletion.
    `topics` tells the catalogue, empty for "any". Callers are already known to be allowed to touch the tenant; `by`
    says who it is, for the audit log, and a tenant may do less than the operator.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        tools: Tools,
        *,
        topics: Callable[[], Sequence[str]],
        max_destinations: int,
        changed: Callable[[str, int | None], None],
        deleted: Callable[[str], None] = lambda _tenant_id: None,
        now: Callable[[], Micros],
        limits: Limits | None = None,
        filter_limits: filters.FilterLimits = filters.DEFAULT_LIMITS,
        override_bounds: OverrideBounds = HARD,
        largest: int = 262_144,
    ) -> None:
        self._store = store
        self._registry = registry
        self._tools = tools
        self._topics = topics
        self._max_destinations = max_destinations
        self._changed = changed
        self._deleted = deleted
        self._now = now
        self._limits = limits or Limits()
        self.filter_limits = filter_limits
        self._override_bounds = override_bounds
        self._largest = largest

    # tenants

    async def put_tenant(
        self, tenant_id: str, metadata: object = None, *, by: Actor = SYSTEM
    ) -> tuple[TenantSummary, bool]:
        """Create the tenant or replace its metadata whole. The second value is True when it is new. Raises Invalid."""
        problems = [problem for problem in [id_problem("tenant_id", tenant_id)] if problem]
        values = self._tenant_metadata(metadata, problems)
        if problems:
            raise Invalid(problems)
        entry = Entry(actor=by, action="tenant.put", tenant_id=tenant_id, subject=tenant_id)
        created = await self._store.put_tenant(tenant_id, values, now=self._now(), entry=entry)
        key = self._store.key_of(tenant_id)
        self._changed(key, None)
        return await self.tenant(key), created

    def _tenant_metadata(self, metadata: object, problems: list[str]) -> dict[str, str] | None:
        if metadata is None or isinstance(metadata, dict):
            return textmaps.metadata(None, metadata, where="metadata", limits=self._limits, problems=problems)
        problems.append("metadata must be an object")
        return None

    async def tenant(self, tenant_id: str) -> TenantSummary:
        """Raises NotFound."""
        found = await self._store.tenant(tenant_id)
        if found is None:
            raise NotFound("tenant not found")
        return found

    async def tenants(self, page: Page, *, ids: tuple[str, ...] = ()) -> tuple[Slice[TenantSummary], int]:
        """A page of tenants, and how many there are in all."""
        return await self._store.tenants(page, ids=ids), await self._store.count_tenants(ids=ids)

    async def delete_tenant(self, tenant_id: str, *, by: Actor = SYSTEM) -> None:
        """Delete the tenant with its destinations. Raises NotFound."""
        entry = Entry(actor=by, action="tenant.delete", tenant_id=tenant_id, subject=id_of(tenant_id))
        if not await self._store.delete_tenant(tenant_id, now=self._now(), entry=entry):
            raise NotFound("tenant not found")
        self._changed(tenant_id, None)
        self._deleted(tenant_id)

    # destinations, read

    async def destination(self, tenant_id: str, destination_id: str) -> Destination:
        """Raises NotFound."""
        found = await self._store.destination(tenant_id, destination_id)
        if found is None:
            raise NotFound("destination not found")
        return found

    async def destinations(
        self, tenant_id: str, *, types: tuple[str, ...] = (), topics: tuple[str, ...] = ()
    ) -> tuple[Destination, ...]:
        """A tenant's destinations of any of the types that cover all of the topics, oldest first."""
        return tuple(
            destination
            for destination in await self._store.destinations(tenant_id)
            if (not types or destination.type in types) and all(map(topic_names.matcher(destination.topics), topics))
        )

    # destinations, changed

    async def create(self, tenant_id: str, body: object, *, by: Actor = SYSTEM) -> Destination:
        """Add a destination from the JSON object of a create.

        Raises Invalid, Forbidden, NotFound for an unknown tenant, BadRequest for a taken id or one too many.
        """
        if _is_tenant(by):
            _refuse_import(body)
        now = self._now()
        draft, problems = await self._read(body, now)
        problems += [f"{name} is required" for name in ("type", "topics") if _is_missing(body, name, draft)]
        kind = self._kind(draft, problems)
        if kind is None:
            raise Invalid(problems)
        wanted = taken(None, draft, problems)
        values = self._checked(kind, self._begun(None, by=by, now=now), draft, problems)
        created_at, disabled_at = sent(draft.created_at, now), sent(draft.disabled_at, None)
        destination_id = sent(draft.id, f"des_{token()}")
        new = Destination(
            no=0,
            id=destination_id,
            tenant_id=tenant_id,
            type=kind.type,
            disabled_at=disabled_at,
            disabled=None if disabled_at is None else Disabling(reason="manual", by=str(by)),
            created_at=created_at,
            updated_at=sent(draft.updated_at, created_at),
            **structs.asdict(wanted),
            **values.parts(),
        )
        self._refuse_too_large(new, by)
        added = await self._store.add_destination(
            new,
            limit=self._max_destinations,
            entry=_entry(by, "destination.create", tenant_id, destination_id, {"type": kind.type}),
        )
        self._changed(tenant_id, added.no)
        return added

    async def update(self, tenant_id: str, destination_id: str, body: object, *, by: Actor = SYSTEM) -> Destination:
        """Merge the JSON object of an update into a destination (RFC 7396).

        The body is checked before the destination is looked for. A secret sent back masked, as it was shown, stays as
        it is. Raises Invalid, Forbidden, NotFound.
        """
        now = self._now()
        draft, problems = await self._read(body, now)
        if problems:
            raise Invalid(problems)
        return await self._change(
            tenant_id, destination_id, lambda old: self._updated(old, draft, by=by, now=now), "destination.update", by
        )

    async def enable(self, tenant_id: str, destination_id: str, *, by: Actor = SYSTEM) -> Destination:
        """Idempotent. Its failures are counted from zero again. Raises NotFound."""
        return await self._change(
            tenant_id, destination_id, lambda old: _disabled(old, None, by), "destination.enable", by
        )

    async def disable(self, tenant_id: str, destination_id: str, *, by: Actor = SYSTEM) -> Destination:
        """Idempotent: the first `disabled_at` stays. Raises NotFound."""
        now = self._now()
        return await self._change(
            tenant_id,
            destination_id,
            lambda old: _disabled(old, sent(old.disabled_at, now), by),
            "destination.disable",
            by,
        )

    async def delete(self, tenant_id: str, destination_id: str, *, by: Actor = SYSTEM) -> None:
        """Raises NotFound."""
        entry = _entry(by, "destination.delete", tenant_id, destination_id)
        deleted = await self._store.delete_destination(tenant_id, destination_id, now=self._now(), entry=entry)
        if deleted is None:
            raise NotFound("destination not found")
        self._changed(tenant_id, deleted.no)

    async def _change(
        self,
        tenant_id: str,
        destination_id: str,
        decide: Callable[[Destination], Destination],
        action: str,
        by: Actor,
    ) -> Destination:
        """Apply a change to the newest version; when somebody else was quicker, decide again on theirs."""
        for _ in range(_TRIES_AGAINST_OTHERS):
            old = await self.destination(tenant_id, destination_id)
            new = decide(old)
            if new == old:
                return old
            if new.damaged:
                raise Invalid([f"{field} cannot be read any more: save it anew" for field in new.damaged])
            entry = _entry(by, action, tenant_id, destination_id, {"changed": _differences(old, new)})
            stored = await self._store.replace_destination(structs.replace(new, updated_at=self._now()), entry)
            if stored is not None:
                self._changed(tenant_id, stored.no)
                return stored
        raise Conflict("the destination is being changed by others at the same time; try again")

    def _updated(self, old: Destination, draft: Draft, *, by: Actor, now: Micros) -> Destination:
        _refuse_to_change_the_fixed(old, draft, by_tenant=_is_tenant(by))
        problems: list[str] = []
        wanted = taken(old, draft, problems)
        values = self._checked(self._known(old.type), self._begun(old, by=by, now=now), draft, problems)
        disabled_at = old.disabled_at if isinstance(draft.disabled_at, UnsetType) else draft.disabled_at
        new = structs.replace(
            _disabled(old, disabled_at, by),
            **structs.asdict(wanted),
            **values.parts(),
            damaged=tuple(field for field in old.damaged if field != "disabled" and _is_left_out(draft, field)),
        )
        self._refuse_too_large(new, by)
        return new

    def _refuse_too_large(self, wanted: Destination, by: Actor) -> None:
        if _is_tenant(by):
            fields.refuse_larger(wanted, self._largest, "the destination")

    # what the values have to be

    def _begun(self, old: Destination | None, *, by: Actor, now: Micros) -> Change:
        """Who changes what and when; the values follow once they are merged."""
        options = self._tools.options
        return Change(old=old, config={}, credentials={}, by_tenant=_is_tenant(by), now=now, options=options)

    async def _read(self, body: object, now: Micros) -> tuple[Draft, list[str]]:
        filters = FilterReader(self.filter_limits)
        rules = Rules(catalogue=tuple(self._topics()), read_filter=filters.read, now=now)
        has_filters = isinstance(body, dict) and bool(body.get("filter") or body.get("subscriptions"))
        return await beside(read, body, rules) if has_filters else read(body, rules)

    def _kind(self, draft: Draft, problems: list[str]) -> DestinationType | None:
        kind = None if isinstance(draft.type, UnsetType) else self._registry.get(draft.type)
        if kind is None and not isinstance(draft.type, UnsetType):
            problems.append(f"type must be one of: {', '.join(self._registry)}")
        return kind

    def _known(self, name: str) -> DestinationType:
        kind = self._registry.get(name)
        if kind is None:
            raise Invalid([f"destination type {name} is not installed on this server"])
        return kind

    def _checked(self, kind: DestinationType, change: Change, draft: Draft, problems: list[str]) -> Values:
        """The merged values as the type wants them stored. Raises Invalid with these problems and those found here."""
        old = Values.of(change.old)
        tenants = self._override_bounds if change.by_tenant else None
        values = old.merged(kind, draft, self._limits, problems, tenants)
        if change.by_tenant:
            problems += secrets_left_behind(kind, old, values, draft.config, draft.credentials)
        if not problems:
            config, credentials = kind.prepare(
                structs.replace(change, config=values.config, credentials=values.credentials)
            )
            values = structs.replace(values, config=config, credentials=credentials)
        problems += fields.problems(kind.config_fields, values.config, where="config")
        problems += fields.problems(kind.credential_fields, values.credentials, where="credentials")
        problems += [] if problems else kind.check(values.config, values.credentials, self._tools)
        if problems:
            raise Invalid(list(dict.fromkeys(problems)))
        return values


def _is_left_out(draft: Draft, field: str) -> bool:
    return isinstance(getattr(draft, field), UnsetType)


def _is_tenant(by: Actor) -> bool:
    return by.kind == "tenant"


def _entry(by: Actor, action: str, tenant_id: str, destination_id: str, detail: dict[str, Any] | None = None) -> Entry:
    return Entry(actor=by, action=action, tenant_id=tenant_id, subject=destination_id, detail=detail or {})


def _differences(old: Destination, new: Destination) -> list[str]:
    """The names of the fields that differ; never their values, among which are secrets."""
    return [name for name in Destination.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def _disabled(old: Destination, disabled_at: Micros | None, by: Actor) -> Destination:
    """The destination enabled, or disabled since then; who disabled it first stays on record."""
    if disabled_at is None:
        return structs.replace(old, disabled_at=None, disabled=None)
    why = old.disabled if old.disabled_at is not None else Disabling(reason="manual", by=str(by))
    return structs.replace(old, disabled_at=disabled_at, disabled=why)


def _is_missing(body: object, name: str, draft: Draft) -> bool:
    instead = name == "topics" and bool(draft.subscriptions)
    return isinstance(body, dict) and name not in body and not instead


def _refuse_import(body: object) -> None:
    """Only the operator imports destinations with a past."""
    for name in ("created_at", "updated_at"):
        if isinstance(body, dict) and body.get(name) is not None:
            raise Forbidden(f"{name} may only be set with an API key")


def _refuse_to_change_the_fixed(old: Destination, draft: Draft, *, by_tenant: bool) -> None:
    """Sending a destination back whole is allowed; sending another type, id or past is not."""
    for name in ("type", "id", "created_at", "updated_at"):
        value = getattr(draft, name)
        if value is None or value is UNSET or value == getattr(old, name):
            continue
        if by_tenant and name.endswith("_at"):
            raise Forbidden(f"{name} may only be set with an API key")
        raise Invalid([f"{name} cannot be updated"], f"{name} cannot be updated")
