"""What the AWS destination types have in common: fields, credentials, endpoints.

A destination has a key of its own, or assumes a role with it. Where the operator allows it (`aws_ambient_credentials`),
it may have no key: then the machine's own identity is used, by itself or to assume the customer's role. So that no
tenant can spend the operator's identity on something that is not the tenant's, a tenant's request without a key has to
name a role, cannot name an endpoint, and the role is assumed with the tenant's id as external id.
"""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar

from msgspec import Struct

from waypost.connect.batch import Limits
from waypost.connect.connector import Change, DestinationType, Message, Tools
from waypost.connect.fields import Field
from waypost.connect.once import delivery_id
from waypost.connect.options import own_options
from waypost.connect.template import Template, compile_template, template_problems
from waypost.core.errors import DeliveryError, Invalid
from waypost.core.model import Destination
from waypost.net.aws import endpoint as endpoints
from waypost.net.aws.client import AwsClient
from waypost.net.aws.credentials import Credentials, Fixed, Leased, Machine, Source
from waypost.net.aws.endpoint import REGION, Endpoint
from waypost.net.aws.errors import Service
from waypost.net.aws.sts import EXTERNAL_ID, ROLE_ARN, STS, AssumedRole

_LONGEST_KEY = 128
_LONGEST_SESSION = 8_192
_ANSWER_PER_MESSAGE = 256
"""What a service answers for one message of a batch, at most, when it is not a long error (bytes)."""
_FOREIGN_EXTERNAL_ID = "config.external_id may only be set with an API key where credentials.key is left out"
_FOREIGN_ENDPOINT = "config.endpoint may only be set with an API key where credentials.key is left out"
_FIFO_ID = re.compile(r"[!-~]{1,128}")


class AwsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for the AWS types: the options `aws_<name>`.

    - `ambient_credentials`: destinations without a key may use the identity of the machine that Waypost runs on.
    - `batch_wait`: how long a message may be held back to travel with others (seconds).
    - `eventbridge_source`: the `source` of events on EventBridge where the destination names none.
    - `sts_endpoint`: where roles are assumed, in place of the region's public endpoint.
    """

    ambient_credentials: bool = False
    batch_wait: float = 0.005
    eventbridge_source: str = "waypost"
    sts_endpoint: str | None = None


def options_of(options: Mapping[str, Any]) -> AwsOptions:
    """The options that concern AWS. Raises SettingsError for one that is unknown or wrong."""
    return own_options("aws", options, AwsOptions)


REGION_FIELD = Field(
    key="region",
    label="Region",
    description="The AWS region, such as eu-west-1.",
    required=True,
    pattern=REGION,
    pattern_hint="a region such as eu-west-1",
    placeholder="eu-west-1",
)
ENDPOINT_FIELD = Field(
    key="endpoint",
    label="Endpoint",
    description="Another URL for the service, such as that of a VPC endpoint. Default: the region's public endpoint.",
    locates=True,
    maxlength=2_048,
    advanced=True,
    placeholder="https://vpce-1234.example.vpce.amazonaws.com",
)
ROLE_FIELDS = (
    Field(
        key="role_arn",
        label="Role",
        description="The ARN of a role to assume for sending.",
        maxlength=600,
        pattern=ROLE_ARN,
        pattern_hint="the ARN of an IAM role",
        advanced=True,
        placeholder="arn:aws:iam::123456789012:role/events",
    ),
    Field(
        key="external_id",
        label="External id",
        description="The external id that the role's trust policy asks for. Without an access key: the tenant's id.",
        pattern=EXTERNAL_ID,
        pattern_hint="2 to 1224 letters, digits and + = , . @ : / - _",
        advanced=True,
    ),
)
CREDENTIAL_FIELDS = (
    Field(
        key="key",
        label="Access key id",
        description="The id of an access key. May only be left out where Waypost's operator has set that up.",
        sensitive=True,
        maxlength=_LONGEST_KEY,
        pattern=r"[!-~]+",
        pattern_hint="no spaces",
        placeholder="AKIA...",
    ),
    Field(
        key="secret",
        label="Secret access key",
        description="The secret of that access key.",
        sensitive=True,
        maxlength=_LONGEST_KEY,
        pattern=r"[!-~]+",
        pattern_hint="no spaces",
    ),
    Field(
        key="session",
        label="Session token",
        description="Only for temporary credentials, which stop working when they expire.",
        sensitive=True,
        maxlength=_LONGEST_SESSION,
        pattern=r"[!-~]+",
        pattern_hint="no spaces",
        advanced=True,
    ),
)


def group_field(what: str) -> Field:
    """The field for the message group of FIFO queues or topics."""
    return Field(
        key="message_group_id_template",
        label="Message group template",
        description=f"FIFO {what}s: what the message group id is made of. Default: the event's topic.",
        advanced=True,
        placeholder="data.customer.id",
    )


class AwsType(DestinationType):
    """A destination type of AWS. Signing needs no library; only the machine's own identity does."""

    extra: ClassVar[str | None] = "aws"
    credential_fields: ClassVar[tuple[Field, ...]] = CREDENTIAL_FIELDS
    service: ClassVar[Service]

    def region(self, config: Mapping[str, str]) -> str:
        return config["region"]

    def endpoint(self, config: Mapping[str, str]) -> Endpoint:
        """Where requests go. Raises ValueError for a URL that breaks a rule ("must ...")."""
        if config.get("endpoint"):
            return endpoints.override(config["endpoint"])
        return endpoints.of_service(self.service.host, self.region(config))

    @abstractmethod
    def own_problems(self, config: dict[str, str]) -> list[str]:
        """Rules of the one type beyond its fields' own."""

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        options = options_of(tools.options)
        return [
            *self._endpoint_problems(config, tools),
            *_credential_problems(credentials, options),
            *_role_problems(config),
            *self.own_problems(config),
        ]

    def prepare(self, change: Change) -> tuple[dict[str, str], dict[str, str]]:
        old = change.old
        changed = old is None or (old.config, old.credentials) != (change.config, change.credentials)
        if change.by_tenant and changed and not change.credentials.get("key"):
            self._refuse_foreign_identity(change)
        return change.config, change.credentials

    async def client(self, destination: Destination, tools: Tools) -> AwsClient:
        """A client for the destination. Raises DeliveryError or MissingExtra."""
        config = destination.config
        try:
            endpoint = self.endpoint(config)
            source = await self._source(destination, tools)
        except ValueError as error:
            raise DeliveryError("configuration_error", f"The destination cannot be used: it {error}") from error
        region, owner = self.region(config), destination.tenant_id
        return AwsClient(tools.http, endpoint, self.service, region=region, source=source, owner=owner)

    def _endpoint_problems(self, config: dict[str, str], tools: Tools) -> list[str]:
        if not config.get("endpoint"):
            return []
        return guarded_problems("config.endpoint", config["endpoint"], tools, whole=True)

    def _refuse_foreign_identity(self, change: Change) -> None:
        config, old = change.config, change.old.config if change.old is not None else {}
        if not config.get("role_arn"):
            raise Invalid(_missing_keys(change.credentials))
        same_role = all(config.get(key) == old.get(key) for key in ("role_arn", "external_id"))
        problems = [] if same_role or not config.get("external_id") else [_FOREIGN_EXTERNAL_ID]
        problems += [_FOREIGN_ENDPOINT] if config.get("endpoint") else []
        problems += self.foreign_problems(config)
        if problems:
            raise Invalid(problems)

    def foreign_problems(self, config: dict[str, str]) -> list[str]:
        """What a tenant may not say of a destination that has no key of its own, beyond what is so for all types."""
        return []

    async def _source(self, destination: Destination, tools: Tools) -> Source:
        options = options_of(tools.options)
        config = destination.config
        own = await self._own_identity(destination, options)
        if not config.get("role_arn"):
            return own
        region = self.region(config)
        sts = AwsClient(tools.http, _sts_endpoint(options, region), STS, region=region, source=own)
        external_id = config.get("external_id") or None
        if external_id is None and not destination.credentials.get("key"):
            external_id = destination.tenant_id.replace(" ", "/")  # another for each tenant of an id
        role = AssumedRole(sts, config["role_arn"], external_id, f"waypost-{destination.id}")
        return Leased(role.fetch)

    async def _own_identity(self, destination: Destination, options: AwsOptions) -> Source:
        given = destination.credentials
        if given.get("key"):
            return Fixed(Credentials(key=given["key"], secret=given["secret"], session=given.get("session") or None))
        if not options.ambient_credentials:
            raise DeliveryError("bad_credentials", "The destination has no credentials", retryable=False)
        try:
            machine = await asyncio.to_thread(Machine)
        except ImportError:
            raise self.missing_extra() from None
        return Leased(machine.fetch)


def _sts_endpoint(options: AwsOptions, region: str) -> Endpoint:
    return endpoints.override(options.sts_endpoint) if options.sts_endpoint else endpoints.of_service(STS.host, region)


def batch_limits(tools: Tools, *, count: int, size: int) -> Limits:
    """How large a batch may be: what the service takes, and no more than Waypost keeps the answer of (`body_cap`)."""
    answerable = max(1, tools.http.settings.body_cap // _ANSWER_PER_MESSAGE)
    return Limits(count=min(count, answerable), size=size, wait=options_of(tools.options).batch_wait)


def guarded_problems(path: str, url: str, tools: Tools, *, whole: bool) -> list[str]:
    """What is wrong with a URL that a customer named; `whole` ones have no path."""
    try:
        endpoint = endpoints.override(url) if whole else endpoints.of_url(url)
    except ValueError as error:
        return [f"{path} {error}"]
    refusal = tools.guard.host_refusal(endpoint.host)
    return [] if refusal is None else [f"{path} is not allowed: {refusal}"]


def _credential_problems(credentials: Mapping[str, str], options: AwsOptions) -> list[str]:
    given = {key for key in ("key", "secret", "session") if credentials.get(key)}
    if not given and options.ambient_credentials:
        return []
    return _missing_keys(credentials)


def _missing_keys(credentials: Mapping[str, str]) -> list[str]:
    return [f"credentials.{key} is required" for key in ("key", "secret") if not credentials.get(key)]


def _role_problems(config: Mapping[str, str]) -> list[str]:
    if config.get("external_id") and not config.get("role_arn"):
        return ["config.role_arn is required with config.external_id"]
    return []


class FifoIds:
    """Message group and deduplication ids of FIFO queues and topics: a template or the topic, and the delivery's id.

    What AWS would not take as a group is replaced by its SHA-256.
    """

    def __init__(self, destination_no: int, template: str | None) -> None:
        self._destination_no = destination_no
        self._group: Template = _group_of(template) if template else _topic

    def of(self, message: Message) -> tuple[str, str]:
        return _fifo_id(self._group(message)), delivery_id(self._destination_no, message)


def _group_of(template: str) -> Template:
    return compile_template(template, field="message_group_id_template", otherwise=_topic)


def group_problems(config: Mapping[str, str], name: str) -> list[str]:
    """What is wrong with the template for the message group of the queue or topic of this name."""
    template = config.get("message_group_id_template")
    path = "config.message_group_id_template"
    if template and not name.endswith(".fifo"):
        return [f"{path} is only for FIFO, where names end with .fifo"]
    return template_problems(path, template)


def _topic(message: Message) -> str:
    return message.event.topic


def _fifo_id(text: str) -> str:
    return text if _FIFO_ID.fullmatch(text) else sha256(text.encode()).hexdigest()
