"""What all AWS destination types have in common, without a server: fields, endpoints, whose identity may be used."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from msgspec import Struct

from tests.destinations.aws_kit import destination, lent
from tests.servers.moto import SENDING
from waypost.connect import fields
from waypost.connect.aws import AwsType, options_of
from waypost.connect.connector import Change, DestinationType
from waypost.core.errors import DeliveryError, Invalid, MissingExtra, SettingsError
from waypost.destinations.aws_eventbridge import AwsEventBridgeType
from waypost.destinations.aws_kinesis import AwsKinesisType
from waypost.destinations.aws_s3 import AwsS3Type
from waypost.destinations.aws_sns import AwsSnsType
from waypost.destinations.aws_sqs import AwsSqsType
from waypost.net.guard import AddressGuard


class Place(Struct, frozen=True):
    """A type and a config for it that passes; nothing is there."""

    kind: DestinationType
    config: dict[str, str]


PLACES = {
    "aws_sqs": Place(AwsSqsType(), {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}),
    "aws_sns": Place(AwsSnsType(), {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:t", "region": "eu-west-1"}),
    "aws_eventbridge": Place(AwsEventBridgeType(), {"region": "eu-west-1"}),
    "aws_kinesis": Place(AwsKinesisType(), {"stream_name": "s", "region": "eu-west-1"}),
    "aws_s3": Place(AwsS3Type(), {"bucket": "bbb", "region": "eu-west-1"}),
}
KEYS = {"key": "AKIDEXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f.1", "169.254.169.254", "10.0.0.1"])
async def test_an_endpoint_at_a_forbidden_address_is_refused_when_saved(place: Place, host: str) -> None:
    async with lent(AddressGuard()) as tools:
        values = {**place.config, "endpoint": f"http://{host}:4566"}
        (problem,) = place.kind.check(values, KEYS, tools)
    assert problem.startswith("config.endpoint is not allowed: ")


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("ftp://example.com", "config.endpoint must start with http:// or https://"),
        ("https://example.com/sqs", "config.endpoint must be a URL without a path"),
        ("https://example.com?a=b", "config.endpoint must be a URL without a path"),
        ("https://key:secret@example.com", "config.endpoint must not contain a user name or password"),
        ("https://", "config.endpoint must have a host"),
    ],
)
async def test_an_endpoint_that_cannot_be_one(place: Place, endpoint: str, problem: str) -> None:
    async with lent() as tools:
        values = {**place.config, "endpoint": endpoint}
        assert place.kind.check(values, KEYS, tools) == [problem]


async def test_the_machines_identity_is_not_used_unless_allowed(place: Place) -> None:
    async with lent() as tools:
        assert place.kind.check(place.config, {}, tools) == [
            "credentials.key is required",
            "credentials.secret is required",
        ]
        with pytest.raises(DeliveryError, match="no credentials"):
            await place.kind.connect(destination(place.kind, place.config, {}), tools)


async def test_the_machines_identity_needs_the_extra(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    async with lent(aws_ambient_credentials=True) as tools:
        with pytest.raises(MissingExtra, match=r"waypost\[aws\]"):
            await place.kind.connect(destination(place.kind, place.config, {}), tools)


def change(place: Place, *, by_tenant: bool = True, old: Any = None, **config: str) -> Change:
    return Change(old=old, config=place.config | config, credentials={}, by_tenant=by_tenant, now=0)


ROLE = "arn:aws:iam::123456789012:role/theirs"


def test_a_tenant_cannot_use_the_machines_identity_by_itself(place: Place) -> None:
    with pytest.raises(Invalid) as caught:
        place.kind.prepare(change(place))
    assert caught.value.data == ["credentials.key is required", "credentials.secret is required"]


def test_a_tenant_can_have_the_machine_assume_a_role(place: Place) -> None:
    config, credentials = place.kind.prepare(change(place, role_arn=ROLE))
    assert (config["role_arn"], credentials) == (ROLE, {})


@pytest.mark.parametrize("field", ["external_id", "endpoint"])
def test_a_tenant_cannot_lead_the_machine_astray(place: Place, field: str) -> None:
    astray: dict[str, Any] = {field: "https://collector.example"}
    with pytest.raises(Invalid) as caught:
        place.kind.prepare(change(place, role_arn=ROLE, **astray))
    assert caught.value.data == [f"config.{field} may only be set with an API key where credentials.key is left out"]


def test_the_operator_can(place: Place) -> None:
    place.kind.prepare(change(place, by_tenant=False))
    place.kind.prepare(change(place, by_tenant=False, role_arn=ROLE, external_id="x1", endpoint="https://aws.example"))


def test_a_tenant_can_change_other_things_of_what_the_operator_has_set_up(place: Place) -> None:
    theirs = change(place, role_arn=ROLE, external_id="x1")
    old = destination(place.kind, theirs.config, {})
    place.kind.prepare(change(place, old=old, role_arn=ROLE, external_id="x1"))
    with pytest.raises(Invalid, match="validation error"):
        place.kind.prepare(change(place, old=old, role_arn=ROLE + "2", external_id="x1"))


def test_the_fields_accept_what_works(place: Place) -> None:
    assert fields.problems(place.kind.config_fields, place.config, where="config") == []
    given = {**KEYS, "session": "FwoGZXIvYXdzEBYaD+/="}
    assert fields.problems(place.kind.credential_fields, given, where="credentials") == []


async def test_half_a_key_is_refused(place: Place) -> None:
    async with lent(aws_ambient_credentials=True) as tools:
        assert place.kind.check(place.config, {"key": "AKIA1"}, tools) == ["credentials.secret is required"]
        assert place.kind.check(place.config, {"session": "abc"}, tools) == [
            "credentials.key is required",
            "credentials.secret is required",
        ]


async def test_an_external_id_belongs_to_a_role(place: Place) -> None:
    async with lent() as tools:
        values = {**place.config, "external_id": "acme"}
        assert place.kind.check(values, KEYS, tools) == ["config.role_arn is required with config.external_id"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("role_arn", "arn:aws:iam::1:role/x"),
        ("role_arn", "arn:aws:iam::123456789012:user/x"),
        ("external_id", "a b"),
        ("region", "eu-west-1.evil.example/"),
        ("region", "EU"),
        ("region", "evil"),
        ("surprise", "x"),
    ],
)
def test_values_that_are_refused(place: Place, key: str, value: str) -> None:
    (problem,) = fields.problems(place.kind.config_fields, {**place.config, key: value}, where="config")
    assert problem.startswith(f"config.{key} ")


def test_secrets_are_masked(place: Place) -> None:
    shown = fields.redact(place.kind.credential_fields, {**KEYS, "session": "token-token"})
    assert all("*" in value for value in shown.values())


def test_the_form(place: Place) -> None:
    described = place.kind.describe()
    assert described["icon"].startswith("<svg")
    assert all(field["label"] and field["description"] for field in described["config_fields"])
    assert '"Action"' in described["instructions"]
    assert isinstance(place.kind, AwsType)


def test_the_target_is_named_without_credentials(place: Place) -> None:
    target, _ = place.kind.target(destination(place.kind, place.config, KEYS))
    assert target
    assert KEYS["key"] not in target


def test_options() -> None:
    assert options_of({"aws_batch_wait": 0.01, "webhook_mode": "standard"}).batch_wait == 0.01
    assert options_of({}).ambient_credentials is False


@pytest.mark.parametrize("wrong", [{"aws_ambient_credentials": "yes"}, {"aws_surprise": 1}])
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="aws options"):
        options_of(wrong)


def test_the_policy_shown_is_enough_for_the_tests(place: Place) -> None:
    shown = place.kind.instructions.partition("```json\n")[2].partition("```")[0]
    statements = json.loads(shown)["Statement"]
    actions = {action for each in statements for action in _listed(each["Action"])}
    assert actions <= set(SENDING)


def _listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions
