"""The rules of tenants and destinations, over the real store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.store.builders import CUSTOMER, OPERATOR
from waypost.core import times
from waypost.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from waypost.core.model import SECOND, Actor, Destination, Micros
from waypost.core.retry import RetryOverrides
from waypost.flow.manage import Manager
from waypost.flow.overrides import OverrideBounds
from waypost.flow.textmaps import Limits
from waypost.store.base import Page
from waypost.store.sqlite import SqliteStore, rows

from .samples import letterbox, registry, tools

NOW: Micros = 1_800_000_000 * SECOND


class Office:
    """A manager over a store with the tenant `acme`, a clock to be set, and a list of the changes that were told."""

    def __init__(self, store: SqliteStore, **changes: Any) -> None:
        self.now = NOW
        self.told: list[str] = []
        options: dict[str, Any] = {"topics": lambda: (), "max_destinations": 20} | changes
        self.manager = Manager(
            store,
            registry(),
            tools(),
            changed=lambda tenant_id, _: self.told.append(tenant_id),
            now=lambda: self.now,
            **options,
        )

    async def create(self, *, by: Actor = OPERATOR, **changes: Any) -> Destination:
        return await self.manager.create("acme", letterbox(**changes), by=by)

    async def update(self, old: Destination, *, by: Actor = OPERATOR, **changes: Any) -> Destination:
        return await self.manager.update("acme", old.id, changes, by=by)


@pytest.fixture
async def office(store: SqliteStore) -> Office:
    made = Office(store)
    await made.manager.put_tenant("acme")
    made.told.clear()
    return made


async def faults(doing: Any) -> list[str]:
    """The sentences that a request is refused with."""
    with pytest.raises(Invalid) as refused:
        await doing
    assert isinstance(refused.value.data, list)
    return refused.value.data


# tenants


async def test_a_tenant_is_created_then_replaced(office: Office) -> None:
    created, is_new = await office.manager.put_tenant("zeta", {"plan": "pro", "seats": 3, "trial": False})
    assert is_new
    assert created.tenant.metadata == {"plan": "pro", "seats": "3", "trial": "false"}
    office.now += SECOND
    replaced, is_new = await office.manager.put_tenant("zeta", {"plan": "free"})
    assert not is_new
    assert replaced.tenant.metadata == {"plan": "free"}
    assert (replaced.tenant.created_at, replaced.tenant.updated_at) == (NOW, NOW + SECOND)
    cleared, _ = await office.manager.put_tenant("zeta")
    assert cleared.tenant.metadata is None
    assert office.told == ["zeta"] * 3


async def test_a_deleted_tenant_takes_its_destinations_along_and_can_come_back(office: Office) -> None:
    made = await office.create()
    await office.manager.delete_tenant("acme")
    for missing in (office.manager.tenant("acme"), office.manager.delete_tenant("acme")):
        with pytest.raises(NotFound, match="tenant not found"):
            await missing
    again, is_new = await office.manager.put_tenant("acme")
    assert is_new
    assert again.destinations_count == 0
    with pytest.raises(NotFound, match="destination not found"):
        await office.manager.destination("acme", made.id)
    assert office.told == ["acme", "acme", "acme 2"]


@pytest.mark.parametrize(
    "tenant_id", ["", "a b", "a/b", "ä", "a\x00", ".", "..", "x" * 129, "a?b", "a#b", "a%b", "a\n"]
)
async def test_a_tenant_id_that_no_url_could_carry_is_refused(office: Office, tenant_id: str) -> None:
    (fault,) = await faults(office.manager.put_tenant(tenant_id))
    assert fault.startswith("tenant_id must be 1 to 128 letters")
    assert office.told == []


@pytest.mark.parametrize("tenant_id", ["a", "x" * 128, "auth0|1", "a@b.example", "org:1", "~", "...", "0"])
async def test_ids_of_other_systems_are_taken(office: Office, tenant_id: str) -> None:
    _, is_new = await office.manager.put_tenant(tenant_id)
    assert is_new


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ([], "metadata must be an object"),
        ("x", "metadata must be an object"),
        ({"a": {}}, "metadata.a must be text"),
        ({"a": ["b"]}, "metadata.a must be text"),
        ({"": "x"}, "metadata must have keys of 1 to 128 printable characters"),
        ({"a\n": "x"}, "metadata must have keys of 1 to 128 printable characters"),
        ({"k" * 129: "x"}, "metadata must have keys of 1 to 128 printable characters"),
        ({"a": "x" * 4_097}, "metadata.a must be at most 4096 characters"),
        ({str(number): "x" for number in range(101)}, "metadata must have at most 100 entries"),
    ],
)
async def test_metadata_is_a_map_of_texts_within_bounds(office: Office, metadata: Any, fault: str) -> None:
    assert await faults(office.manager.put_tenant("zeta", metadata)) == [fault]
    assert await faults(office.create(metadata=metadata)) == [fault]
    assert await faults(office.create(delivery_metadata=metadata)) == [
        fault.replace("metadata", "delivery_metadata", 1)
    ]


async def test_the_bounds_of_metadata_can_be_set(store: SqliteStore) -> None:
    office = Office(store, limits=Limits(entries=1, key_length=2, value_length=3))
    await office.manager.put_tenant("acme", {"ab": "abc"})
    for metadata in ({"a": "b", "c": "d"}, {"abc": ""}, {"a": "abcd"}):
        assert await faults(office.manager.put_tenant("acme", metadata))


async def test_tenants_come_in_pages_with_their_number(office: Office) -> None:
    for name in ("b", "c"):
        office.now += SECOND
        await office.manager.put_tenant(name)
    part, count = await office.manager.tenants(Page(limit=2))
    assert [item.tenant.id for item in part.items] == ["c", "b"]
    assert (part.has_next, count) == (True, 3)


# creating


async def test_a_destination_is_created_with_what_the_type_makes_of_it(office: Office) -> None:
    made = await office.create(
        topics=["order.*", "invoice.paid", "order.*"],
        credentials={"pin": "1234567890"},
        delivery_metadata={"region": "eu"},
        metadata={"team": 7},
        filter={"data": {"amount": {"$gte": 10}}},
        retry_policy={"limit": 3, "schedule": [1, 2.5]},
    )
    assert made.no > 0
    assert made.id.startswith("des_")
    assert made.topics == ("order.*", "invoice.paid")
    assert made.credentials == {"pin": "1234567890", "seal": f"seal-{NOW}"}
    assert (made.delivery_metadata, made.metadata) == ({"region": "eu"}, {"team": "7"})
    assert made.filter == {"data": {"amount": {"$gte": 10}}}
    assert made.retry_policy == RetryOverrides(limit=3, schedule=(1.0, 2.5))
    assert (made.created_at, made.updated_at, made.disabled_at, made.version) == (NOW, NOW, None, 1)
    assert await office.manager.destination("acme", made.id) == made
    assert office.told == ["acme"]


async def test_json_values_are_understood_as_text(office: Office) -> None:
    made = await office.create(
        config={"address": "Elm Street", "floor": 3, "express": True, "stamps": {"fr": "2", "it": 1}, "zip": ""}
    )
    assert made.config == {
        "address": "Elm Street",
        "floor": "3",
        "express": "true",
        "stamps": '{"fr":"2","it":1}',
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "carrier"}, ["type must be one of: letterbox, pigeon"]),
        ({"type": 7}, ["type must be text"]),
        ({"type": None}, ["type must be text"]),
        ({"topics": None}, ['topics must be "*" or a list of topics']),
        ({"topics": "order"}, ['topics must be "*" or a list of topics']),
        ({"topics": [1]}, ['topics must be "*" or a list of topics']),
        ({"topics": []}, ["topics must have 1 to 500 entries"]),
        ({"topics": ["t"] * 501}, ["topics must have 1 to 500 entries"]),
        ({"topics": ["a", "b c"]}, ["topics.1 must be 1 to 255 letters, digits or _ - . : / *"]),
        ({"config": []}, ["config must be an object", "config.address is required"]),
        ({"config": None}, ["config.address is required"]),
        ({"config": {}}, ["config.address is required"]),
        ({"config": {"address": ""}}, ["config.address is required"]),
        ({"config": {"address": {}}}, ["config.address must be text", "config.address is required"]),
        ({"config": {"address": "ab"}}, ["config.address must be at least 3 characters"]),
        ({"config": {"address": "Elm", "size": "m"}}, ["config.size must be one of: s, l"]),
        ({"config": {"address": "Elm", "zip": "1"}}, ["config.zip failed pattern validation: five digits"]),
        ({"config": {"address": "Elm", "floor": "x"}}, ["config.floor failed pattern validation: a whole number"]),
        ({"config": {"address": "Elm", "express": "on"}}, ["config.express must be one of: true, false"]),
        ({"config": {"address": "Elm", "roof": "x"}}, ["config.roof is not a field of this destination type"]),
        ({"config": {"address": "Nowhere"}}, ["config.address is nowhere"]),
        ({"credentials": "x"}, ["credentials must be an object"]),
        ({"credentials": {"seal": "own"}}, ["credentials.seal is set by the server and cannot be changed"]),
        ({"filter": "((", "topics": "*"}, None),
        ({"filter": {"data": {"a": {"$unknown": 1}}}}, None),
        ({"filter": 7}, None),
        ({"id": "a b"}, ["id must be 1 to 128 letters, digits or _ - . : @ | ~ + ="]),
        ({"id": 7}, ["id must be 1 to 128 letters, digits or _ - . : @ | ~ + ="]),
        ({"created_at": "yesterday"}, ["created_at must be an RFC 3339 date-time"]),
        ({"created_at": 1}, ["created_at must be an RFC 3339 date-time"]),
        ({"updated_at": "9999-01-01T00:00:00Z"}, ["updated_at must not be in the future"]),
        ({"disabled_at": "9999-01-01T00:00:00Z"}, ["disabled_at must not be in the future"]),
        ({"retry_policy": 3}, ["retry_policy must be an object"]),
        ({"topic": "*"}, ["topic is not a field of a destination"]),
    ],
)
async def test_each_broken_rule_has_its_sentence(
    office: Office, changes: dict[str, Any], expected: list[str] | None
) -> None:
    found = await faults(office.create(**changes))
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith("filter: ")
    else:
        assert found == expected
    assert office.told == []


async def test_all_faults_are_told_at_once(office: Office) -> None:
    body = {"type": "letterbox", "config": {"floor": "x"}, "metadata": 1}
    found = await faults(office.manager.create("acme", body, by=OPERATOR))
    assert found == [
        "metadata must be an object",
        "topics is required",
        "config.address is required",
        "config.floor failed pattern validation: a whole number",
    ]


@pytest.mark.parametrize("body", [None, [], "x", 7, True])
async def test_a_body_that_is_no_object_is_refused(office: Office, body: Any) -> None:
    expected = ["the body must be a JSON object"]
    assert await faults(office.manager.create("acme", body, by=OPERATOR)) == expected
    assert await faults(office.manager.create("acme", body, by=CUSTOMER)) == expected
    assert await faults(office.manager.update("acme", "des_1", body, by=OPERATOR)) == expected


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ({"limit": -1}, "retry_policy.limit must be a whole number from 0 to 100"),
        ({"limit": 101}, "retry_policy.limit must be a whole number from 0 to 100"),
        ({"limit": 1.5}, "retry_policy.limit must be a whole number from 0 to 100"),
        ({"limit": True}, "retry_policy.limit must be a whole number from 0 to 100"),
        ({"limit": "3"}, "retry_policy.limit must be a whole number from 0 to 100"),
        ({"base_seconds": 0}, "retry_policy.base_seconds must be a number from 0.1 to 2592000"),
        ({"max_wait_seconds": 1e9}, "retry_policy.max_wait_seconds must be a number from 0.1 to 2592000"),
        ({"factor": 0.5}, "retry_policy.factor must be a number from 1 to 100"),
        ({"jitter": 1.1}, "retry_policy.jitter must be a number from 0 to 1"),
        ({"schedule": []}, "retry_policy.schedule must be a list of 1 to 100 numbers from 0.1 to 2592000"),
        ({"schedule": [1, "2"]}, "retry_policy.schedule must be a list of 1 to 100 numbers from 0.1 to 2592000"),
        ({"retry_on": "never"}, "retry_policy.retry_on must be one of: transient, any"),
        ({"retry_on": ["any"]}, "retry_policy.retry_on must be one of: transient, any"),
        (
            {"retry_codes": "404"},
            "retry_policy.retry_codes must be a list of at most 50 codes such as 404, 4xx, timeout",
        ),
        (
            {"no_retry_codes": [404]},
            "retry_policy.no_retry_codes must be a list of at most 50 codes such as 404, 4xx, timeout",
        ),
        ({"limits": 3}, "retry_policy.limits is not a field of a retry policy"),
    ],
)
async def test_a_retry_policy_stays_within_bounds(office: Office, policy: dict[str, Any], fault: str) -> None:
    assert await faults(office.create(retry_policy=policy)) == [fault]


async def test_a_whole_retry_policy_is_kept(office: Office) -> None:
    policy = {
        "limit": 5,
        "base_seconds": 10,
        "factor": 3,
        "max_wait_seconds": 100.5,
        "jitter": 0,
        "schedule": [1, 60],
        "retry_on": "any",
        "retry_codes": ["404", "4xx"],
        "no_retry_codes": ["tls_error"],
    }
    made = await office.create(retry_policy=policy)
    assert made.retry_policy == RetryOverrides(
        limit=5,
        base_seconds=10.0,
        factor=3.0,
        max_wait_seconds=100.5,
        jitter=0.0,
        schedule=(1.0, 60.0),
        retry_on="any",
        retry_codes=("404", "4xx"),
        no_retry_codes=("tls_error",),
    )
    changed = await office.update(made, retry_policy={"limit": None, "factor": 4})
    assert changed.retry_policy == structs.replace(made.retry_policy, limit=None, factor=4.0)
    assert (await office.update(made, retry_policy=None)).retry_policy is None


async def test_topics_obey_the_catalogue(store: SqliteStore) -> None:
    office = Office(store, topics=lambda: ("order.created", "order.shipped"))
    await office.manager.put_tenant("acme")
    assert (await office.create(topics=["order.*"])).topics == ("order.*",)
    assert (await office.create(topics="*")).topics == ("*",)
    assert (await office.create(topics=["order.created", "*"])).topics == ("*",)
    assert await faults(office.create(topics=["order.created", "invoice.*"])) == [
        "topics: no known topic is covered by invoice.*"
    ]


async def test_an_own_id_is_kept_and_unique_within_the_tenant(office: Office) -> None:
    assert (await office.create(id="mine")).id == "mine"
    with pytest.raises(BadRequest, match="destination already exists"):
        await office.create(id="mine")
    await office.manager.put_tenant("zeta")
    other = await office.manager.create("zeta", letterbox(id="mine"), by=OPERATOR)
    assert other.tenant_id == "zeta"
    assert (await office.create(id="")).id.startswith("des_")
    assert (await office.create(id=None)).id.startswith("des_")


async def test_there_are_only_so_many(store: SqliteStore) -> None:
    office = Office(store, max_destinations=2)
    await office.manager.put_tenant("acme")
    await office.create()
    second = await office.create()
    with pytest.raises(BadRequest, match="maximum number of destinations per tenant reached"):
        await office.create()
    await office.manager.delete("acme", second.id)
    await office.create()


async def test_an_unknown_tenant_has_no_destinations(office: Office) -> None:
    with pytest.raises(NotFound, match="tenant not found"):
        await office.manager.create("nobody", letterbox(), by=OPERATOR)


async def test_the_operator_imports_a_past(office: Office) -> None:
    past = "2024-02-15T10:00:00Z"
    made = await office.create(created_at=past, disabled_at="2024-03-01T00:00:00.5+01:00")
    assert times.render(made.created_at) == times.render(made.updated_at) == past
    assert made.disabled_at == times.parse("2024-02-29T23:00:00.5Z")
    later = await office.create(created_at=past, updated_at="2024-02-16T10:00:00Z")
    assert times.render(later.updated_at) == "2024-02-16T10:00:00Z"
    assert (await office.create(created_at=None, updated_at=None)).created_at == NOW


@pytest.mark.parametrize("name", ["created_at", "updated_at"])
async def test_a_tenant_imports_no_past(office: Office, name: str) -> None:
    with pytest.raises(Forbidden, match=name):
        await office.create(by=CUSTOMER, **{name: "2024-02-15T10:00:00Z"})
    made = await office.create(by=CUSTOMER, **{name: None})
    with pytest.raises(Forbidden, match=name):
        await office.update(made, by=CUSTOMER, **{name: "2024-02-15T10:00:00Z"})


async def test_the_type_knows_who_asks(office: Office) -> None:
    assert await faults(office.create(by=CUSTOMER, credentials={"pin": "root"})) == [
        "credentials.pin is the operator's"
    ]
    assert (await office.create(credentials={"pin": "root"})).credentials["pin"] == "root"


# updating


async def test_a_patch_merges_one_level_down(office: Office) -> None:
    old = await office.create(
        config={"address": "Elm Street", "floor": "3", "size": "s"},
        metadata={"a": "1", "b": "2"},
        delivery_metadata={"c": "3"},
    )
    office.now += SECOND
    new = await office.update(
        old, config={"floor": None, "size": "l"}, metadata={"a": None, "d": 4}, delivery_metadata={"c": None}
    )
    assert new.config == {"address": "Elm Street", "size": "l"}
    assert new.metadata == {"b": "2", "d": "4"}
    assert new.delivery_metadata is None
    assert (new.created_at, new.updated_at, new.version) == (NOW, NOW + SECOND, 2)
    assert new.credentials == old.credentials
    assert office.told == ["acme"] * 2


async def test_null_clears_a_whole_map(office: Office) -> None:
    old = await office.create(metadata={"a": "1"}, delivery_metadata={"b": "2"}, credentials={"pin": "1234"})
    new = await office.update(old, metadata=None, delivery_metadata=None, credentials=None)
    assert (new.metadata, new.delivery_metadata) == (None, None)
    assert new.credentials == {"seal": f"seal-{NOW}"}
    assert await faults(office.update(old, config=None)) == ["config.address is required"]


async def test_topics_and_filter_are_replaced_whole(office: Office) -> None:
    old = await office.create(topics=["a", "b"], filter={"data": {"x": 1}})
    kept = await office.update(old, metadata={"k": "v"})
    assert (kept.topics, kept.filter) == (("a", "b"), {"data": {"x": 1}})
    new = await office.update(old, topics=["c"], filter={"data": {"y": 2}})
    assert (new.topics, new.filter) == (("c",), {"data": {"y": 2}})
    assert (await office.update(old, filter={})).filter is None
    await office.update(old, filter={"data": {"y": 2}})
    assert (await office.update(old, filter=None)).filter is None


async def test_the_type_may_be_sent_but_not_changed(office: Office) -> None:
    old = await office.create()
    assert (await office.update(old, type="letterbox")) == old
    with pytest.raises(Invalid, match="type cannot be updated"):
        await office.update(old, type="pigeon")
    with pytest.raises(Invalid, match="id cannot be updated"):
        await office.update(old, id="other")
    with pytest.raises(Invalid, match="created_at cannot be updated"):
        await office.update(old, created_at="2024-02-15T10:00:00Z")


async def test_the_body_is_checked_before_the_destination_is_looked_for(office: Office) -> None:
    assert await faults(office.manager.update("acme", "nobody", {"topics": 1}, by=OPERATOR))
    with pytest.raises(NotFound, match="destination not found"):
        await office.manager.update("acme", "nobody", {"topics": "*"}, by=OPERATOR)


async def test_a_masked_secret_sent_back_is_unchanged(office: Office) -> None:
    old = await office.create(credentials={"pin": "1234567890"})
    same = await office.update(old, credentials={"pin": "1234********"}, config={"floor": 2})
    assert same.credentials["pin"] == "1234567890"
    new = await office.update(old, credentials={"pin": "1234*****"})
    assert new.credentials["pin"] == "1234*****"


async def test_what_the_server_sets_may_be_sent_back_but_not_changed(office: Office) -> None:
    old = await office.create()
    assert (await office.update(old, credentials=dict(old.credentials))).credentials == old.credentials
    fault = "credentials.seal is set by the server and cannot be changed"
    assert await faults(office.update(old, credentials={"seal": "own"})) == [fault]
    assert await faults(office.update(old, credentials={"seal": None})) == [fault]


async def test_the_type_turns_its_secret(office: Office) -> None:
    old = await office.create()
    office.now += SECOND
    new = await office.update(old, credentials={"turn_seal": True})
    assert new.credentials == {"seal": f"seal-{NOW + SECOND}"}


async def test_nothing_changed_is_nothing_written(office: Office) -> None:
    old = await office.create(metadata={"a": "1"})
    office.now += SECOND
    assert await office.update(old) == old
    assert await office.update(old, metadata={"a": "1"}, config={}, topics="*") == old
    assert office.told == ["acme"]


async def test_a_patch_disables_and_enables(office: Office) -> None:
    old = await office.create()
    past = "2024-02-15T10:00:00Z"
    assert (await office.update(old, by=CUSTOMER, disabled_at=past)).disabled_at == times.parse(past)
    assert (await office.update(old, disabled_at=None)).disabled_at is None
    assert await faults(office.update(old, disabled_at="9999-01-01T00:00:00Z"))


async def test_enable_and_disable_are_idempotent(office: Office) -> None:
    old = await office.create()
    assert await office.manager.enable("acme", old.id) == old
    first = await office.manager.disable("acme", old.id)
    assert first.disabled_at == NOW
    office.now += SECOND
    assert await office.manager.disable("acme", old.id) == first
    enabled = await office.manager.enable("acme", old.id)
    assert (enabled.disabled_at, enabled.updated_at) == (None, NOW + SECOND)
    assert office.told == ["acme"] * 3
    for doing in (office.manager.enable, office.manager.disable, office.manager.delete):
        with pytest.raises(NotFound, match="destination not found"):
            await doing("acme", "nobody")


async def test_two_changes_at_once_both_hold(office: Office) -> None:
    old = await office.create()
    await asyncio.gather(*(office.update(old, metadata={f"k{number}": "v"}) for number in range(6)))
    new = await office.manager.destination("acme", old.id)
    assert new.metadata == {f"k{number}": "v" for number in range(6)}
    assert new.version == 7


async def test_a_change_that_always_loses_gives_up(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(store)
    await office.manager.put_tenant("acme")
    old = await office.create()

    async def lose(_destination: Destination, _entry: object) -> None:
        return None

    monkeypatch.setattr(store, "replace_destination", lose)
    with pytest.raises(Conflict, match="at the same time"):
        await office.update(old, metadata={"a": "1"})


async def test_a_destination_of_a_type_that_was_uninstalled_can_go_but_not_change(
    office: Office, store: SqliteStore
) -> None:
    old = await office.create()
    await store.replace_destination(structs.replace(old, type="telex"))
    assert await faults(office.update(old, topics=["a"])) == ["destination type telex is not installed on this server"]
    assert (await office.manager.disable("acme", old.id)).disabled_at == NOW
    await office.manager.delete("acme", old.id)


# listing


async def test_the_list_is_narrowed_by_any_type_and_all_topics(office: Office) -> None:
    everything = await office.create(id="everything")
    office.now += SECOND
    orders = await office.create(id="orders", topics=["order.*", "invoice.paid"])
    office.now += SECOND
    bird = await office.manager.create(
        "acme",
        {"type": "pigeon", "topics": ["order.created"], "config": {"loft": "A"}, "credentials": {"ring": "r"}},
        by=OPERATOR,
    )

    async def listed(**conditions: Any) -> list[Destination]:
        return list(await office.manager.destinations("acme", **conditions))

    assert await listed() == [everything, orders, bird]
    assert await listed(types=("pigeon",)) == [bird]
    assert await listed(types=("pigeon", "letterbox")) == [everything, orders, bird]
    assert await listed(topics=("order.created",)) == [everything, orders, bird]
    assert await listed(topics=("order.created", "invoice.paid")) == [everything, orders]
    assert await listed(topics=("*",)) == [everything]
    assert await listed(types=("pigeon",), topics=("invoice.paid",)) == []


# whatever is sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "id",
        "type",
        "topics",
        "filter",
        "config",
        "credentials",
        "delivery_metadata",
        "metadata",
        "retry_policy",
        "created_at",
        "updated_at",
        "disabled_at",
        "target",
        "x",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(FIELDS, JSON, max_size=4), by=st.sampled_from((OPERATOR, CUSTOMER)))
async def test_whatever_is_sent_is_taken_or_refused(office: Office, changes: dict[str, Any], by: Actor) -> None:
    try:
        made = await office.create(by=by, **changes)
    except (Invalid, Forbidden):
        assert await office.manager.destinations("acme") == ()
    else:
        assert await office.manager.destination("acme", made.id) == made
        await office.manager.delete("acme", made.id)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(FIELDS, JSON, max_size=4))
async def test_whatever_is_patched_is_taken_or_refused(office: Office, changes: dict[str, Any]) -> None:
    old = await office.create()
    try:
        made = await office.update(old, **changes)
    except (Invalid, Forbidden):
        assert await office.manager.destination("acme", old.id) == old
    else:
        assert await office.manager.destination("acme", old.id) == made
    await office.manager.delete("acme", old.id)


async def test_a_tenants_secrets_do_not_follow_to_another_address(office: Office) -> None:
    old = await office.create(
        by=CUSTOMER,
        config={"address": "https://elm.test/1", "marks": '{"x-key":"0123456789","x-id":"7"}'},
        credentials={"pin": "1234567890"},
    )
    elsewhere = {"address": "https://thief.test/1"}
    why = "has to be given anew, because config.address leads to another server"
    both = [f"config.marks {why}", f"credentials.pin {why}"]
    assert await faults(office.update(old, by=CUSTOMER, config=elsewhere)) == both
    masked = {"marks": '{"x-key":"0123********","x-id":"9"}'}
    refused = office.update(old, by=CUSTOMER, config=elsewhere | masked, credentials={"pin": "1234********"})
    assert await faults(refused) == [f"config.marks.x-key {why}", f"credentials.pin {why}"]
    assert await office.manager.destination("acme", old.id) == old

    same = await office.update(old, by=CUSTOMER, config={"address": "https://elm.test/2"} | masked)
    assert same.config["marks"] == '{"x-key":"0123456789","x-id":"9"}'
    bare = await office.update(old, by=CUSTOMER, config=elsewhere | {"marks": None}, credentials=None)
    assert bare.config == elsewhere
    assert "pin" not in bare.credentials


async def test_the_operator_and_who_knows_the_secrets_may_move_a_destination(office: Office) -> None:
    marks, pin = {"x-key": "0123456789"}, {"pin": "1234567890"}
    made = await office.create(config={"address": "https://elm.test", "marks": marks}, credentials=pin)
    moved = await office.update(made, config={"address": "https://oak.test"})
    assert moved.credentials == made.credentials
    again = {"address": "https://ash.test", "marks": marks}
    told = await office.update(moved, by=CUSTOMER, config=again, credentials=pin)
    assert told.config["address"] == "https://ash.test"


async def test_the_operator_bounds_the_retry_policies_of_tenants(store: SqliteStore) -> None:
    bounds = OverrideBounds(retries=5, shortest_wait=2, longest_wait=60)
    office = Office(store, override_bounds=bounds)
    await office.manager.put_tenant("acme")
    for policy, wanted in (
        ({"limit": 6}, "limit must be a whole number from 0 to 5"),
        ({"base_seconds": 1}, "base_seconds must be a number from 2 to 60"),
        ({"max_wait_seconds": 61}, "max_wait_seconds must be a number from 2 to 60"),
        ({"schedule": [2, 1.9]}, "schedule must be a list of 1 to 5 numbers from 2 to 60"),
        ({"schedule": [2] * 6}, "schedule must be a list of 1 to 5 numbers from 2 to 60"),
    ):
        fault = [f"retry_policy.{wanted}, unless an API key sets it"]
        assert await faults(office.create(by=CUSTOMER, retry_policy=policy)) == fault
        made = await office.create(retry_policy=policy)
        same = await office.update(made, by=CUSTOMER, retry_policy={**policy, "jitter": 0.5})
        assert same.retry_policy == structs.replace(made.retry_policy or RetryOverrides(), jitter=0.5)


async def test_a_tenants_destination_is_bounded_as_a_whole_and_little_of_it_outlives_it(store: SqliteStore) -> None:
    office = Office(store, largest=20_000)
    await office.manager.put_tenant("acme")
    large = {f"k{number}": "v" * 4_000 for number in range(5)}
    fault = ["the destination must be at most 20000 bytes, all its parts together as JSON"]
    assert await faults(office.create(by=CUSTOMER, metadata=large)) == fault
    made = await office.create(by=CUSTOMER, delivery_metadata={"k": "v"}, filter={"data": {"a": 1}})
    assert await faults(office.update(made, by=CUSTOMER, metadata=large)) == fault
    await office.update(made, metadata=large, credentials={"pin": "1234567890"})
    await office.manager.delete("acme", made.id, by=CUSTOMER)
    left = "metadata, delivery_metadata, filter, subscriptions, retry_policy"
    assert await store._db.all(f"SELECT {left} FROM destinations") == [(None,) * 5]
    ((row),) = await store._db.all(f"SELECT {rows.DESTINATION} FROM destinations")
    assert rows.destination(row, store._vault).credentials == {}
