"""Alert rules over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core.alerts import PARAMETERS, Kind

from .kit import Caller, World, error

RULES = "/alert-rules"


async def made(caller: Caller, kind: str = "consecutive_failures", **body: Any) -> dict[str, Any]:
    answer = await caller.post(RULES, json={"kind": kind} | body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def listed(caller: Caller) -> list[str]:
    return [rule["id"] for rule in (await caller.get(RULES)).json()]


async def test_the_rules_of_the_settings_are_there_from_the_start(world: World) -> None:
    rules = (await world.admin.get(RULES)).json()
    assert [rule["kind"] for rule in rules] == list(Kind)
    for rule in rules:
        assert (rule["id"], rule["owner"], rule["built_in"]) == (rule["kind"], "operator", True)
        assert (rule["created_at"], rule["updated_at"], rule["enabled"]) == (None, None, True)
        assert list(rule["parameters"]) == list(PARAMETERS[Kind(rule["kind"])])
    assert rules[0]["parameters"] == {"count": 100, "steps": [50, 70, 90, 100]}
    assert (await world.admin.get(f"{RULES}/auto_disable")).json() == rules[-1]
    assert await listed(world.acme) == []


async def test_settings_of_zero_leave_rules_out(world: World) -> None:
    quiet = World(
        world.store,
        alert_consecutive_failures=0,
        alert_failure_rate=0,
        alert_exhausted_window=0,
        alert_backlog_age=0,
        auto_disable=False,
    )
    assert await listed(quiet.admin) == ["destination_disabled", "recovered", "store_trouble"]


async def test_a_rule_is_made_changed_and_deleted(world: World) -> None:
    await world.destination(id="des_1")
    answer = await world.admin.post(
        RULES,
        json={
            "kind": "consecutive_failures",
            "tenant_id": "acme",
            "destination_id": "des_1",
            "severity": "critical",
            "parameters": {"count": 20},
            "muted_until": "2030-01-01T00:00:00+01:00",
        },
    )
    assert answer.status_code == 201
    rule = answer.json()
    assert rule == {
        "id": rule["id"],
        "kind": "consecutive_failures",
        "owner": "operator",
        "built_in": False,
        "tenant_id": "acme",
        "destination_id": "des_1",
        "enabled": True,
        "severity": "critical",
        "parameters": {"count": 20, "steps": [50, 70, 90, 100]},
        "channel_ids": None,
        "muted_until": "2029-12-31T23:00:00Z",
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    }
    path = f"{RULES}/{rule['id']}"
    changed = (await world.admin.patch(path, json={"enabled": False, "muted_until": None})).json()
    assert changed == rule | {"enabled": False, "muted_until": None}
    assert (await world.admin.get(path)).json() == changed
    assert (await world.admin.delete(path)).json() == {"success": True}
    assert error(await world.admin.get(path)) == (404, "alert rule not found", None)
    assert error(await world.admin.delete(path)) == (404, "alert rule not found", None)


async def test_a_rule_of_the_settings_cannot_be_changed_but_replaced(world: World) -> None:
    sentence = "this rule comes from the settings: create one of the same kind to take its place"
    for answer in (
        await world.admin.patch(f"{RULES}/recovered", json={"enabled": False}),
        await world.admin.delete(f"{RULES}/recovered"),
    ):
        assert error(answer) == (409, sentence, None)
    rule = await made(world.admin, "recovered", enabled=False)
    assert "recovered" not in await listed(world.admin)
    await world.admin.delete(f"{RULES}/{rule['id']}")
    assert "recovered" in await listed(world.admin)


async def test_a_tenant_has_rules_of_its_own_and_sees_no_others(world: World) -> None:
    await made(world.admin)
    await made(world.admin, tenant_id="acme")
    given = await made(world.admin, "recovered", tenant_id="acme", owner="tenant")
    mine = await made(world.acme, parameters={"count": 5})
    theirs = await made(world.zeta, tenant_id="acme")
    assert (mine["owner"], mine["tenant_id"]) == ("tenant", "acme")
    assert (theirs["owner"], theirs["tenant_id"]) == ("tenant", "zeta")
    assert await listed(world.acme) == [given["id"], mine["id"]]
    assert await listed(world.zeta) == [theirs["id"]]
    assert set(await listed(world.admin)) >= {given["id"], mine["id"], theirs["id"]}
    for method in ("GET", "PATCH", "DELETE"):
        for hidden in (theirs["id"], "consecutive_failures"):
            options = {"json": {"enabled": False}} if method == "PATCH" else {}
            assert error(await world.acme(method, f"{RULES}/{hidden}", **options))[0] == 404
    assert (await world.admin.patch(f"{RULES}/{mine['id']}", json={"enabled": False})).status_code == 200


@pytest.mark.parametrize("kind", ["backlog_age", "store_trouble"])
async def test_what_is_about_the_server_is_not_for_tenants(world: World, kind: str) -> None:
    expected = (403, f"{kind} is about the whole server: it is the operator's alone", None)
    assert error(await world.acme.post(RULES, json={"kind": kind})) == expected
    assert error(await world.admin.post(RULES, json={"kind": kind, "tenant_id": "acme"})) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], (422, "validation error", ["the body must be a JSON object"])),
        ({}, (422, "validation error", ["kind is required"])),
        (
            {"kind": "recovered", "severity": "dire", "enabled": 1, "parameters": {"count": 1}},
            (
                422,
                "validation error",
                [
                    "parameters.count is not a parameter of recovered; it has none",
                    "severity must be one of: info, warning, critical",
                    "enabled must be true or false",
                ],
            ),
        ),
        (
            {"kind": "recovered", "channel_ids": [{"id": "chn_1"}]},
            (422, "validation error", ["channel_ids must be a list of at most 50 ids, or null for all"]),
        ),
        (
            {"kind": "recovered", "channel_ids": ["chn_1"]},
            (422, "validation error", ["channel_ids: chn_1 is not known"]),
        ),
        ({"kind": "recovered", "tenant_id": "nobody"}, (404, "tenant not found", None)),
        ({"kind": "recovered", "tenant_id": "acme", "destination_id": "x"}, (404, "destination not found", None)),
        (
            {"kind": "failure_rate", "tenant_id": "zeta"},
            (400, "there is a rule of this kind for the same place already", None),
        ),
    ],
)
async def test_a_wrong_rule_is_refused(world: World, body: Any, expected: tuple[int, str, Any]) -> None:
    await made(world.admin, "failure_rate", tenant_id="zeta")
    assert error(await world.admin.post(RULES, json=body)) == expected


async def test_a_wrong_change_is_refused(world: World) -> None:
    path = f"{RULES}/{(await made(world.admin))['id']}"
    for body, faults in (
        ({"kind": "recovered"}, ["kind cannot be updated"]),
        ({"id": "x"}, ["id is not a field of an alert rule"]),
        (
            {"parameters": {"steps": [90, 50]}},
            ["parameters.steps must be a growing list of 1 to 20 whole percentages from 1 to 100"],
        ),
    ):
        assert error(await world.admin.patch(path, json=body)) == (422, "validation error", faults)
    assert error(await world.admin.patch(f"{RULES}/rul_nobody", json={}))[0] == 404
