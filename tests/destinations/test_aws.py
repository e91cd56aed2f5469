"""What all AWS destination types have in common, each against Moto, which checks every signature and permission."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.destinations.aws_kit import (
    OUTLETS,
    Outlet,
    connected,
    destination,
    gate_to,
    lent,
    through,
    until,
)
from tests.destinations.messages import ODD_BODY, message, said_of
from tests.servers.moto import SENDING, Moto
from waypost.connect.connector import Message, Receipt
from waypost.core.errors import DeliveryError
from waypost.net.guard import AddressGuard

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

Make = Callable[..., Outlet]


@pytest.fixture(params=OUTLETS)
def outlet(request: pytest.FixtureRequest, moto: Moto) -> Outlet:
    return OUTLETS[request.param](moto)


async def failure(outlet: Outlet, values: dict[str, str], credentials: dict[str, str], **options: Any) -> DeliveryError:
    """What one send fails with."""
    async with connected(outlet.kind, values, credentials, **options) as connection:
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message())
    return caught.value


def said(error: DeliveryError) -> str:
    return f"{error.sentence} {error} {json.dumps(error.response)} {json.dumps(error.request)}"


# sending


async def test_an_event_arrives_with_its_metadata(outlet: Outlet, moto: Moto) -> None:
    sent = message(trace="abc", note="two  words")
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(sent)
    (arrived,) = outlet.read(1)
    assert arrived.metadata == sent.metadata
    assert json.loads(arrived.data) == json.loads(ODD_BODY)
    assert receipt.code == "200"
    assert said_of(receipt, messages=None if outlet.kind.type == "aws_s3" else 1)
    on_record = json.dumps([receipt.request, receipt.response])
    assert not [secret for secret in moto.sender.credentials.values() if secret in on_record]


async def test_sixty_at_once_arrive_and_each_has_its_own_receipt(outlet: Outlet, moto: Moto) -> None:
    messages = [message(f'{{"n":{n}}}'.encode(), event_id=f"evt_{n}") for n in range(60)]
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        receipts = await asyncio.gather(*(connection.send(each) for each in messages))
    arrived = {each.metadata["event-id"]: json.loads(each.data)["n"] for each in outlet.read(60)}
    assert arrived == {f"evt_{n}": n for n in range(60)}
    assert len({json.dumps(receipt.response) for receipt in receipts}) == 60


async def test_a_cancelled_send_takes_no_other_with_it(outlet: Outlet, moto: Moto) -> None:
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        sends = [asyncio.create_task(connection.send(message(event_id=f"evt_{n}"))) for n in range(12)]
        sends[3].cancel()
        await asyncio.sleep(0.005)
        sends[7].cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(results[3], asyncio.CancelledError)
        assert all(isinstance(result, Receipt) for n, result in enumerate(results) if n not in {3, 7})
        await connection.send(message(event_id="evt_after"))
    arrived = {each.metadata["event-id"] for each in outlet.read(12)}
    assert arrived >= {f"evt_{n}" for n in range(12) if n not in {3, 7}} | {"evt_after"}
    assert "evt_3" not in arrived


async def test_closing_twice_is_allowed(outlet: Outlet, moto: Moto) -> None:
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message())
        await connection.close()
        await connection.close()


async def test_what_is_under_way_when_the_connection_is_closed_still_arrives(outlet: Outlet, moto: Moto) -> None:
    async with lent() as tools:
        connection = await outlet.kind.connect(destination(outlet.kind, outlet.config, moto.sender.credentials), tools)
        sends = [asyncio.create_task(connection.send(message(event_id=f"evt_{n}"))) for n in range(3)]
        await asyncio.sleep(0)
        await connection.close()
        await asyncio.gather(*sends)
    assert len(outlet.read(3)) == 3


async def test_nothing_is_lost_when_the_server_is_gone_for_a_while(outlet: Outlet, moto: Moto) -> None:
    count = 40
    failures: list[DeliveryError] = []

    async def deliver(connection: Any, sent: Message) -> None:
        while True:
            try:
                await connection.send(sent)
            except DeliveryError as error:
                failures.append(error)
                await asyncio.sleep(0.02)
            else:
                return

    async with (
        gate_to(moto.server.port) as gate,
        connected(outlet.kind, through(gate, outlet), moto.sender.credentials) as connection,
    ):
        await deliver(connection, message(event_id="evt_0"))
        first = [asyncio.create_task(deliver(connection, message(event_id=f"evt_{n}"))) for n in range(1, 20)]
        await asyncio.sleep(0)
        await gate.shut()
        rest = [asyncio.create_task(deliver(connection, message(event_id=f"evt_{n}"))) for n in range(20, count)]
        await until(lambda: any(error.code == "connection_refused" for error in failures))
        await gate.open()
        await asyncio.gather(*first, *rest)
    arrived = {each.metadata["event-id"] for each in outlet.read(count)}
    assert arrived == {f"evt_{n}" for n in range(count)}
    assert all(error.retryable for error in failures)
    assert {error.code for error in failures} <= {"connection_refused", "connection_reset", "network_error"}


# what goes wrong


async def test_the_wrong_secret(outlet: Outlet, moto: Moto) -> None:
    wrong = {**moto.sender.credentials, "secret": "w" * 40}
    error = await failure(outlet, outlet.config, wrong)
    assert (error.code, error.retryable) == ("bad_credentials", False)
    assert moto.sender.key not in said(error)
    assert wrong["secret"] not in said(error)
    assert outlet.read(1) == []


async def test_an_unknown_key(outlet: Outlet, moto: Moto) -> None:
    error = await failure(outlet, outlet.config, {"key": "AKIAUNKNOWNUNKNOWN", "secret": "s" * 40})
    assert (error.code, error.retryable) == ("bad_credentials", False)
    assert "AKIAUNKNOWNUNKNOWN" not in said(error)


async def test_a_key_without_the_permission(outlet: Outlet, moto: Moto) -> None:
    error = await failure(outlet, outlet.config, moto.stranger.credentials)
    assert (error.code, error.retryable) == ("access_denied", False)
    assert "permission" in error.sentence
    assert moto.stranger.key not in said(error)


async def test_what_does_not_exist(outlet: Outlet, moto: Moto) -> None:
    error = await failure(outlet, outlet.missing, moto.sender.credentials)
    assert (error.code, error.retryable) == (outlet.missing_code, False)
    assert "no such" in error.sentence


async def test_a_server_that_is_not_there(outlet: Outlet, moto: Moto) -> None:
    async with gate_to(moto.server.port) as gate:
        pass
    error = await failure(outlet, through(gate, outlet), moto.sender.credentials)
    assert (error.code, error.retryable) == ("connection_refused", True)


async def test_verify(outlet: Outlet, moto: Moto) -> None:
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        await connection.verify()
    assert outlet.read(1) == []


async def test_verify_says_that_access_is_denied(outlet: Outlet, moto: Moto) -> None:
    async with connected(outlet.kind, outlet.config, moto.stranger.credentials) as connection:
        with pytest.raises(DeliveryError, match=r"denied access.*permission") as caught:
            await connection.verify()
    assert caught.value.code == "access_denied"


async def test_verify_finds_nothing(outlet: Outlet, moto: Moto) -> None:
    async with connected(outlet.kind, outlet.missing, moto.sender.credentials) as connection:
        with pytest.raises(DeliveryError) as caught:
            await connection.verify()
    assert caught.value.code == outlet.missing_code


# addresses


async def test_a_name_that_leads_to_a_forbidden_address_is_not_contacted(outlet: Outlet, moto: Moto) -> None:
    values = {**outlet.config, "endpoint": f"http://localhost:{moto.server.port}"}
    error = await failure(outlet, values, moto.sender.credentials, guard=AddressGuard())
    assert error.code == "blocked_address"
    assert outlet.read(1) == []


# roles


async def test_an_assumed_role_sends(outlet: Outlet, moto: Moto) -> None:
    caller = moto.user(f"caller-{outlet.kind.type}", "sts:AssumeRole")
    values = {**outlet.config, "role_arn": moto.role(*SENDING, external_id="acme:42"), "external_id": "acme:42"}
    async with connected(outlet.kind, values, caller.credentials, aws_sts_endpoint=moto.url) as connection:
        await connection.verify()
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(3)))
    assert len(outlet.read(3)) == 3


async def test_a_role_without_the_permission(outlet: Outlet, moto: Moto) -> None:
    values = {**outlet.config, "role_arn": moto.role("iam:GetUser")}
    error = await failure(outlet, values, moto.role_caller.credentials, aws_sts_endpoint=moto.url)
    assert error.code == "access_denied"
    assert "permission" in error.sentence


async def test_a_role_with_another_external_id(outlet: Outlet, moto: Moto) -> None:
    values = {**outlet.config, "role_arn": moto.role(*SENDING, external_id="acme:42"), "external_id": "acme:43"}
    error = await failure(outlet, values, moto.role_caller.credentials, aws_sts_endpoint=moto.url)
    assert (error.code, error.retryable) == ("access_denied", False)
    assert "external id" in error.sentence
    assert moto.role_caller.key not in said(error)


async def test_a_role_is_assumed_once_for_many_events(outlet: Outlet, moto: Moto) -> None:
    values = {**outlet.config, "role_arn": moto.role(*SENDING)}
    async with (
        gate_to(moto.server.port) as gate,
        connected(outlet.kind, values, moto.role_caller.credentials, aws_sts_endpoint=gate.url) as connection,
    ):
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(20)))
        await connection.send(message())
        assert gate.seen.count(b"Action=AssumeRole") == 1


# the machine's own identity


@pytest.fixture
def machine(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose identity is in its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.sender.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.sender.secret)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def test_the_machines_identity(outlet: Outlet, machine: None) -> None:
    async with lent(aws_ambient_credentials=True) as tools:
        assert outlet.kind.check(outlet.config, {}, tools) == []
    async with connected(outlet.kind, outlet.config, {}, aws_ambient_credentials=True) as connection:
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(3)))
    assert len(outlet.read(3)) == 3


async def test_the_machine_assumes_a_role_with_the_tenants_id(
    outlet: Outlet, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.role_caller.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.role_caller.secret)
    options = {"aws_ambient_credentials": True, "aws_sts_endpoint": moto.url}
    of_this_tenant = {**outlet.config, "role_arn": moto.role(*SENDING, external_id="acme")}
    async with connected(outlet.kind, of_this_tenant, {}, **options) as connection:
        await connection.send(message())
    assert len(outlet.read(1)) == 1
    of_another = {**outlet.config, "role_arn": moto.role(*SENDING, external_id="globex")}
    assert (await failure(outlet, of_another, {}, **options)).code == "access_denied"


async def test_a_machine_without_an_identity(
    outlet: Outlet, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    error = await failure(outlet, outlet.config, {}, aws_ambient_credentials=True)
    assert (error.code, error.retryable) == ("bad_credentials", True)


async def test_a_key_of_ones_own_needs_no_extra(outlet: Outlet, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    async with connected(outlet.kind, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message())
