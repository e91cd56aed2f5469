"""Google Cloud Pub/Sub over its REST API."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.google import SERVICE_ACCOUNT_FIELD, api_of, endpoint_problems, endpoint_url, key_problems
from waypost.connect.record import receipts
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse
from waypost.net.google.api import GoogleApi, refused, require

_ENDPOINT = "https://pubsub.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/pubsub"
_LIMITS = Limits(count=100, size=9_000_000)
"""Pub/Sub takes 1000 messages and 10 MB a request; 100 ids are sure to fit into what is kept of an answer."""
_MOST_BYTES = 10_000_000
_LONGEST_KEY = 1_024
_MOST_GROUPS = 1_000
_WITHOUT_PERMISSIONS = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.NOT_FOUND})


class GcpPubSubType(DestinationType):
    type: ClassVar[str] = "gcp_pubsub"
    label: ClassVar[str] = "Google Cloud Pub/Sub"
    description: ClassVar[str] = "Publish events to a Pub/Sub topic."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><circle cx="12" cy="12" r="3"/>'
        '<circle cx="12" cy="4" r="1.5"/><circle cx="5" cy="18" r="1.5"/><circle cx="19" cy="18" r="1.5"/>'
        '<path d="M12 5.5V9M9.5 13.8 6.2 17M14.5 13.8l3.3 3.2"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In the Google Cloud console, create the Pub/Sub topic, or choose one.
2. Create a service account for the sender, without any role in the project.
3. On the topic, give that account the role **Pub/Sub Publisher** (`roles/pubsub.publisher`), which is all it needs.
4. Create a JSON key for the account and paste the whole file.

With the gcloud CLI:

```sh
gcloud pubsub topics create orders
gcloud iam service-accounts create waypost
gcloud pubsub topics add-iam-policy-binding orders \\
  --member serviceAccount:waypost@PROJECT.iam.gserviceaccount.com --role roles/pubsub.publisher
gcloud iam service-accounts keys create key.json --iam-account waypost@PROJECT.iam.gserviceaccount.com
```

The message's data are the event's as they were published. The metadata (`timestamp`, `event-id`, `topic` and more) are
attributes; Pub/Sub takes at most 100 of them, keys of 256 and values of 1024 bytes. An event can be published more than
once: compare the attribute `event-id`.

With an **ordering key** and a subscription that has message ordering on, messages of the same key arrive in the order
in which Pub/Sub received them; give a regional endpoint such as `https://europe-west1-pubsub.googleapis.com` with it.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="project_id",
            label="Project",
            description="The id of the Google Cloud project that the topic is in.",
            required=True,
            maxlength=100,
            pattern=r"[A-Za-z0-9][A-Za-z0-9.:_-]*",
            pattern_hint="a project id such as my-project-123",
            placeholder="my-project-123",
        ),
        Field(
            key="topic",
            label="Topic",
            description="The id of the topic, without projects/.../topics/ before it.",
            required=True,
            minlength=3,
            maxlength=255,
            pattern=r"[A-Za-z][A-Za-z0-9._~%+-]*",
            pattern_hint="a letter, then letters, digits and . _ ~ % + -",
            placeholder="orders",
        ),
        Field(
            key="ordering_key_template",
            label="Ordering key",
            description="Makes each message's ordering key from the event, e.g. `data.customer.id`.",
            advanced=True,
            maxlength=LONGEST_TEMPLATE,
            placeholder="data.customer.id",
        ),
        Field(
            key="endpoint",
            label="Endpoint",
            description=(
                "Another URL for Pub/Sub: a region's, or host:port of an emulator, to which no credentials are sent."
            ),
            locates=True,
            advanced=True,
            maxlength=2_048,
            placeholder="https://europe-west1-pubsub.googleapis.com",
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (SERVICE_ACCOUNT_FIELD,)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return [
            *endpoint_problems(config.get("endpoint"), tools),
            *template_problems("config.ordering_key_template", config.get("ordering_key_template")),
            *key_problems(config.get("endpoint"), credentials["service_account_json"], tools),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        project, topic = destination.config["project_id"], destination.config["topic"]
        link = f"https://console.cloud.google.com/cloudpubsub/topic/detail/{quote(topic)}?project={quote(project)}"
        return f"{topic} in {project}", None if destination.config.get("endpoint") else link

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        template = config.get("ordering_key_template")
        return PubSubConnection(
            api_of(destination, _SCOPE, tools),
            endpoint_url(config.get("endpoint")) or _ENDPOINT,
            config["project_id"],
            config["topic"],
            compile_template(template, field="ordering_key_template", otherwise=_no_key) if template else _no_key,
        )


class _Published(Struct, frozen=True, rename="camel"):
    message_ids: tuple[str, ...] = ()


class PubSubConnection:
    """Publishes to one topic. Messages of one request share their ordering key, as Pub/Sub demands."""

    def __init__(self, api: GoogleApi, endpoint: str, project: str, topic: str, ordering_key: Template) -> None:
        self._api = api
        self._what = f"the topic {topic} in project {project}"
        self._url = f"{endpoint}/v1/projects/{quote(project, safe=':')}/topics/{quote(topic, safe='')}"
        self._ordering_key = ordering_key
        self._batchers: dict[str, Batcher[bytes, Receipt]] = {}

    async def send(self, message: Message) -> Receipt:
        key = self._ordering_key(message)
        encoded = _encoded(message, key)
        return await self._batcher(key).send(encoded, len(encoded) + 1)

    async def verify(self) -> None:
        """Ask Pub/Sub whether the account may publish. An emulator, which knows no rights, is asked for the topic."""
        wanted = "pubsub.topics.publish"
        body = msgspec.json.encode({"permissions": [wanted]})
        response = await self._api.call("POST", f"{self._url}:testIamPermissions", body)
        if response.status in _WITHOUT_PERMISSIONS:
            response = await self._api.call("GET", self._url)
            self._accepted(response)
            return
        self._accepted(response)
        require(wanted, response, self._what)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""

    def _batcher(self, key: str) -> Batcher[bytes, Receipt]:
        batcher = self._batchers.get(key)
        if batcher is None:
            if len(self._batchers) >= _MOST_GROUPS:
                self._batchers.clear()  # those at work go on by themselves
            batcher = self._batchers[key] = Batcher(self._publish, _LIMITS)
        return batcher

    async def _publish(self, encoded: Sequence[bytes]) -> list[Receipt | DeliveryError]:
        body = b'{"messages":[%b]}' % b",".join(encoded)
        response = await self._api.call("POST", f"{self._url}:publish", body)
        self._accepted(response)
        return receipts(response, [{"message_id": own} for own in _message_ids(response, len(encoded))])

    def _accepted(self, response: HttpResponse) -> None:
        if response.status != HTTPStatus.OK:
            raise refused(response, service="Pub/Sub", missing="no_such_topic", what=self._what)


def _no_key(_message: Message) -> str:
    return ""


def _encoded(message: Message, key: str) -> bytes:
    """The message as JSON, with its data in base64. Raises DeliveryError for what Pub/Sub does not take."""
    parts: dict[str, Any] = {"data": message.body, "attributes": message.metadata}
    if key:
        parts["orderingKey"] = key
    if len(key.encode()) > _LONGEST_KEY:
        sentence = f"The ordering key that the template makes is longer than {_LONGEST_KEY} bytes"
        raise DeliveryError("template_failed", sentence, retryable=False)
    encoded = msgspec.json.encode(parts)
    if len(encoded) > _MOST_BYTES:
        sentence = f"The message takes {len(encoded)} bytes in a request, of which Pub/Sub accepts {_MOST_BYTES}"
        raise DeliveryError("message_too_large", sentence, retryable=False)
    return encoded


def _message_ids(response: HttpResponse, expected: int) -> tuple[str | None, ...]:
    """The ids by which Pub/Sub knows the messages; without a name where the answer was too long to be kept."""
    try:
        ids = read_json(response.body, type=_Published).message_ids
    except (msgspec.DecodeError, UnicodeError):
        ids = ()
    return ids if len(ids) == expected else (None,) * expected
