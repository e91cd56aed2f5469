"""Google Cloud Storage: one object for each event, over the JSON API."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import msgspec

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field, Option
from waypost.connect.google import SERVICE_ACCOUNT_FIELD, api_of, endpoint_problems, endpoint_url, key_problems
from waypost.connect.record import receipt
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse
from waypost.net.google.api import GoogleApi, refused, require

_ENDPOINT = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_DEFAULT_KEY = "{{time.year}}/{{time.month}}/{{time.day}}/{{id}}.json"
_LONGEST_KEY = 1_024
_KEPT_OF_AN_OBJECT = ("generation", "md5Hash", "size")


class GcpStorageType(DestinationType):
    type: ClassVar[str] = "gcp_storage"
    label: ClassVar[str] = "Google Cloud Storage"
    description: ClassVar[str] = "Store each event as an object in a Cloud Storage bucket."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><ellipse cx="12" cy="6" rx="8" ry="3"/>'
        '<path d="M4 6l2 13c1.5 1.3 10.5 1.3 12 0l2-13M5 12c2 2 12 2 14 0"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In the Google Cloud console, create the bucket, or choose one.
2. Create a service account for the sender, without any role in the project.
3. On the bucket, give that account the role **Storage Object Creator** (`roles/storage.objectCreator`). Where the same
   event can come to the same name twice, as with the default name, the retry of a delivery whose answer was lost
   replaces the object, for which **Storage Object User** (`roles/storage.objectUser`) is needed.
4. Create a JSON key for the account and paste the whole file.

With the gcloud CLI:

```sh
gcloud iam service-accounts create waypost
gcloud storage buckets add-iam-policy-binding gs://BUCKET \\
  --member serviceAccount:waypost@PROJECT.iam.gserviceaccount.com --role roles/storage.objectUser
gcloud iam service-accounts keys create key.json --iam-account waypost@PROJECT.iam.gserviceaccount.com
```

The object's content is the event's data as it was published, of the type `application/json`. The metadata (`timestamp`,
`event-id`, `topic` and more) are the object's custom metadata. Unless a name template says otherwise, the object is
named `YEAR/MONTH/DAY/EVENT-ID.json` by the event's own time.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="bucket",
            label="Bucket",
            description="The name of the bucket.",
            required=True,
            minlength=3,
            maxlength=222,
            pattern=r"[a-z0-9][a-z0-9._-]*[a-z0-9]",
            pattern_hint="lower-case letters, digits and . _ - between them",
            placeholder="my-events",
        ),
        Field(
            key="key_template",
            label="Object name",
            description="Makes each object's name from the event.",
            advanced=True,
            maxlength=LONGEST_TEMPLATE,
            placeholder=_DEFAULT_KEY,
        ),
        Field(
            key="storage_class",
            label="Storage class",
            description="The storage class of the objects; the bucket's own by default.",
            type="select",
            advanced=True,
            options=(
                Option("Standard", "STANDARD"),
                Option("Nearline", "NEARLINE"),
                Option("Coldline", "COLDLINE"),
                Option("Archive", "ARCHIVE"),
            ),
        ),
        Field(
            key="endpoint",
            label="Endpoint",
            description="Another URL for Cloud Storage, or host:port of an emulator, to which no credentials are sent.",
            locates=True,
            advanced=True,
            maxlength=2_048,
            placeholder=_ENDPOINT,
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (SERVICE_ACCOUNT_FIELD,)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return [
            *endpoint_problems(config.get("endpoint"), tools),
            *template_problems("config.key_template", config.get("key_template")),
            *key_problems(config.get("endpoint"), credentials["service_account_json"], tools),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        bucket = destination.config["bucket"]
        link = f"https://console.cloud.google.com/storage/browser/{quote(bucket)}"
        return f"gs://{bucket}", None if destination.config.get("endpoint") else link

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        return StorageConnection(
            api_of(destination, _SCOPE, tools),
            endpoint_url(config.get("endpoint")) or _ENDPOINT,
            config["bucket"],
            compile_template(config.get("key_template") or _DEFAULT_KEY, field="key_template"),
            config.get("storage_class"),
        )


class StorageConnection:
    """Writes objects into one bucket."""

    def __init__(self, api: GoogleApi, endpoint: str, bucket: str, name: Template, storage_class: str | None) -> None:
        self._api = api
        self._what = f"the bucket {bucket}"
        self._bucket = f"{endpoint}/storage/v1/b/{quote(bucket)}"
        query = urlencode({"uploadType": "multipart", "fields": ",".join(_KEPT_OF_AN_OBJECT)})
        self._upload = f"{endpoint}/upload/storage/v1/b/{quote(bucket)}/o?{query}"
        self._name = name
        self._storage_class = storage_class

    async def send(self, message: Message) -> Receipt:
        name = _sound_name(self._name(message))
        boundary = secrets.token_hex(16)
        body = _multipart(self._resource(name, message), message.body, boundary)
        response = await self._api.call("POST", self._upload, body, f"multipart/related; boundary={boundary}")
        self._accepted(response)
        return receipt(response, {"object": name} | _kept(response))

    async def verify(self) -> None:
        """Ask Cloud Storage whether the account may create objects."""
        wanted = "storage.objects.create"
        response = await self._api.call("GET", f"{self._bucket}/iam/testPermissions?permissions={wanted}")
        self._accepted(response)
        require(wanted, response, self._what)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""

    def _resource(self, name: str, message: Message) -> dict[str, Any]:
        resource = {"name": name, "contentType": "application/json", "metadata": message.metadata}
        return resource | {"storageClass": self._storage_class} if self._storage_class else resource

    def _accepted(self, response: HttpResponse) -> None:
        if response.status != HTTPStatus.OK:
            raise refused(response, service="Cloud Storage", missing="no_such_bucket", what=self._what)


def _multipart(resource: dict[str, Any], content: bytes, boundary: str) -> bytes:
    """The object's properties and its content in one body (RFC 2387), as the JSON API wants them."""
    return b"".join(
        (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode(),
            msgspec.json.encode(resource),
            f"\r\n--{boundary}\r\ncontent-type: application/json\r\n\r\n".encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _sound_name(name: str) -> str:
    """Raises DeliveryError for a name that Cloud Storage does not take."""
    if len(name.encode()) > _LONGEST_KEY:
        why = f"is longer than {_LONGEST_KEY} bytes"
    elif "\r" in name or "\n" in name:
        why = "contains a line break"
    elif name in {".", ".."} or name.startswith(".well-known/acme-challenge/"):
        why = "is reserved"
    else:
        return name
    raise DeliveryError("template_failed", f"The object name that the template makes {why}", retryable=False)


def _kept(response: HttpResponse) -> dict[str, Any]:
    try:
        found = read_json(response.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        return {}
    return {name: found[name] for name in _KEPT_OF_AN_OBJECT if name in found}
