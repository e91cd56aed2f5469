"""Amazon S3: one object per event."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar
from urllib.parse import quote

from waypost.connect.aws import ENDPOINT_FIELD, REGION_FIELD, ROLE_FIELDS, AwsType
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.fields import Field, Option
from waypost.connect.headers import HeaderNames
from waypost.connect.record import receipt
from waypost.connect.template import Template, compile_template, template_problems
from waypost.core import times
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.aws import endpoint as endpoints
from waypost.net.aws.client import AwsClient
from waypost.net.aws.endpoint import Endpoint
from waypost.net.aws.errors import Service, request_id
from waypost.net.exchange import clean_header_value

_S3 = Service(name="s3", host="s3", label="Amazon S3", thing="bucket", missing="no_such_bucket")
_PUT = "s3:PutObject"
_LIST = "s3:ListBucket (which only verifying needs)"
_EMPTY_SHA256 = sha256(b"").hexdigest()
_LONGEST_KEY = 1_024
_DATE = len("YYYY-MM-DD")
_STORAGE_CLASSES = (
    ("STANDARD", "Standard"),
    ("INTELLIGENT_TIERING", "Intelligent-Tiering"),
    ("STANDARD_IA", "Standard, infrequent access"),
    ("ONEZONE_IA", "One zone, infrequent access"),
    ("GLACIER_IR", "Glacier, instant retrieval"),
    ("GLACIER", "Glacier, flexible retrieval"),
    ("DEEP_ARCHIVE", "Glacier, deep archive"),
    ("REDUCED_REDUNDANCY", "Reduced redundancy"),
)


class AwsS3Type(AwsType):
    type: ClassVar[str] = "aws_s3"
    label: ClassVar[str] = "Amazon S3"
    description: ClassVar[str] = "Store each event as an object in a bucket of Amazon S3."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><ellipse cx="12" cy="6" rx="8" ry="3"/>'
        '<path d="M4 6l2 13c.3 1.2 3 2 6 2s5.700-.8 6-2l2-13"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Create a bucket in Amazon S3.
2. Create an access key for an IAM user, or a role to assume, that may write to it:

```json
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::<bucket>/*"},
  {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::<bucket>"}
]}
```

`s3:ListBucket` is only used to verify the destination. A bucket that is encrypted with a KMS key of yours also needs
`kms:GenerateDataKey` for that key.

An object's body is the event's data (`application/json`). Its user metadata (`x-amz-meta-event-id`, `x-amz-meta-topic`,
`x-amz-meta-timestamp` and what the event and the destination add) may have 2 KB in all; values that are not ASCII are
encoded as RFC 2047 says. The key is `<topic>/<date>/<event id>.json`, the date being that of the event in UTC, unless a
template says otherwise. An event that is sent again replaces its own object as long as the key is made of nothing but
the event.
"""
    service: ClassVar[Service] = _S3
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="bucket",
            label="Bucket",
            description="The name of the bucket.",
            required=True,
            pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            pattern_hint="3 to 63 lower-case letters, digits, dots and hyphens",
            placeholder="example-events",
        ),
        REGION_FIELD,
        Field(
            key="key_template",
            label="Key template",
            description="What object keys are made of; {{topic}}/{{time.date}}/{{id}}.json where it is left out.",
            advanced=True,
            placeholder="{{topic}}/{{time.year}}/{{time.month}}/{{id}}.json",
        ),
        Field(
            key="storage_class",
            label="Storage class",
            description="The storage class of the objects.",
            type="select",
            default="STANDARD",
            options=tuple(Option(label, value) for value, label in _STORAGE_CLASSES),
            advanced=True,
        ),
        ENDPOINT_FIELD,
        *ROLE_FIELDS,
    )

    def endpoint(self, config: Mapping[str, str]) -> Endpoint:
        """The bucket's own host, or S3's where a certificate for that cannot be had: for a name with dots."""
        if config.get("endpoint"):
            return endpoints.override(config["endpoint"])
        prefix = self.service.host if _in_path(config) else f"{config['bucket']}.{self.service.host}"
        return endpoints.of_service(prefix, config["region"])

    def own_problems(self, config: dict[str, str]) -> list[str]:
        return template_problems("config.key_template", config.get("key_template"))

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return f"{destination.config['bucket']} ({destination.config['region']})", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        template = config.get("key_template")
        return S3Connection(
            await self.client(destination, tools),
            f"/{config['bucket']}/" if _in_path(config) else "/",
            compile_template(template, field="key_template") if template else _default_key,
            config.get("storage_class"),
        )


def _in_path(config: Mapping[str, str]) -> bool:
    """Whether requests name the bucket in their path, not in the host."""
    return bool(config.get("endpoint")) or "." in config["bucket"]


def _default_key(message: Message) -> str:
    event = message.event
    return f"{event.topic}/{times.render(event.time)[:_DATE]}/{event.id}.json"


class S3Connection:
    """Puts objects into one bucket."""

    def __init__(self, client: AwsClient, root: str, key: Template, storage_class: str | None) -> None:
        self._client = client
        self._root = root
        self._key = key
        self._names = HeaderNames("x-amz-meta-")
        self._fixed = {"content-type": "application/json"}
        if storage_class:
            self._fixed["x-amz-storage-class"] = storage_class

    async def send(self, message: Message) -> Receipt:
        key = _usable(self._key(message))
        digest = sha256(message.body)
        headers = {
            **{name: _ascii(value) for name, value in self._names.of(message.metadata).items()},
            **self._fixed,
            "x-amz-content-sha256": digest.hexdigest(),
            "x-amz-checksum-sha256": b64encode(digest.digest()).decode(),
        }
        path = self._root + quote(key, safe="/~")
        response = await self._client.request("PUT", path, headers, message.body, action=_PUT)
        kept = {
            "key": key,
            "etag": response.headers.get("etag", "").strip('"'),
            "version_id": response.headers.get("x-amz-version-id"),
            "request_id": request_id(response),
        }
        return receipt(response, {name: value for name, value in kept.items() if value})

    async def verify(self) -> None:
        """List no objects: unlike HEAD, that answers with the reason when it is refused."""
        headers = {"x-amz-content-sha256": _EMPTY_SHA256}
        await self._client.request("GET", f"{self._root}?list-type=2&max-keys=0", headers, b"", action=_LIST)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""


def _usable(key: str) -> str:
    """The key. Raises DeliveryError for one that S3 does not take, or that a URL cannot say."""
    if len(key.encode()) > _LONGEST_KEY:
        raise DeliveryError("invalid_key", f"The object key is longer than {_LONGEST_KEY} bytes", retryable=False)
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise DeliveryError("invalid_key", "The object key has a part that is only dots", retryable=False)
    return key


def _ascii(value: str) -> str:
    """A value as S3 keeps it: RFC 2047 for what is not ASCII."""
    if value.isascii():
        return clean_header_value(value)
    return f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="
