"""Sending to Service Bus and Event Hubs over HTTPS, whose interfaces are the same but for a few names.

Messages go out as JSON batches, the only form over HTTPS that keeps properties with any name and any text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from msgspec import Struct

from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Message, Receipt, Tools
from waypost.connect.record import receipts
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net import azure
from waypost.net.azure import ConnectionString, SasTokens, parse_connection_string
from waypost.net.exchange import HttpRequest, HttpResponse

_BATCH = "application/vnd.microsoft.servicebus.json"
_LIMITS = Limits(count=64, size=192 * 1024)
"""The smallest tiers take 256 KiB a batch, with what the service adds to each message."""
_MOST_GROUPS = 1_000


class Item(Struct, frozen=True, gc=False):
    """A message as it stands in a batch. A batch holds messages of one group only."""

    encoded: bytes
    group: str


Render = Callable[[Message], Item]


class Service(Struct, frozen=True, kw_only=True):
    """What differs: the name in sentences, what an entity is called, the code for a missing one, the API's version."""

    name: str
    entity: str
    missing: str
    api_version: str


def rendered(message: Message, broker: dict[str, str], group: str) -> Item:
    """The message with its data as the body, byte for byte, and its metadata as application properties."""
    parts = {"Body": message.body.decode(), "BrokerProperties": broker, "UserProperties": message.metadata}
    return Item(msgspec.json.encode({name: part for name, part in parts.items() if part}), group)


def access_problems(text: str, entity: str, tools: Tools) -> list[str]:
    """What is wrong with a connection string for an entity, as sentences that start with its path. Offline."""
    path = "credentials.connection_string"
    try:
        access = parse_connection_string(text)
    except ValueError as error:
        return [f"{path} {error}"]
    if access.entity_path is not None and access.entity_path.lower() != entity.lower():
        return [f"{path} is for {access.entity_path}, not for {entity}"]
    refusal = tools.guard.host_refusal(access.host)
    return [] if refusal is None else [f"{path} is not allowed: {refusal}"]


class BusConnection:
    """Sends to one queue, topic or event hub. The sockets are the HTTP client's."""

    def __init__(
        self, service: Service, destination: Destination, access: ConnectionString, tools: Tools, render: Render
    ) -> None:
        entity = destination.config["name"]
        self._owner = destination.tenant_id
        self._service = service
        self._what = f"{service.entity} {entity}"
        self._url = f"https://{access.authority}/{quote(entity)}"
        self._http = tools.http
        self._tokens = SasTokens(access, entity)
        self._render = render
        self._batchers: dict[str, Batcher[bytes, Receipt]] = {}

    @classmethod
    def of(cls, service: Service, destination: Destination, tools: Tools, render: Render) -> BusConnection:
        """Raises DeliveryError for a connection string that cannot be read."""
        try:
            access = parse_connection_string(destination.credentials["connection_string"])
        except ValueError as error:
            sentence = f"The connection string {error}"
            raise DeliveryError("configuration_error", sentence, retryable=False) from None
        return cls(service, destination, access, tools, render)

    async def send(self, message: Message) -> Receipt:
        item = self._render(message)
        return await self._batcher(item.group).send(item.encoded, len(item.encoded) + 1)

    def _batcher(self, group: str) -> Batcher[bytes, Receipt]:
        batcher = self._batchers.get(group)
        if batcher is None:
            if len(self._batchers) >= _MOST_GROUPS:
                self._batchers.clear()  # those at work go on by themselves
            batcher = self._batchers[group] = Batcher(self._post, _LIMITS)
        return batcher

    async def _post(self, encoded: Sequence[bytes]) -> list[Receipt | DeliveryError]:
        response = await self._call("POST", f"{self._url}/messages?api-version={self._service.api_version}", encoded)
        if response.status != HTTPStatus.CREATED:
            raise self._refused(response)
        return receipts(response, [{}] * len(encoded))

    async def _call(self, method: str, url: str, encoded: Sequence[bytes] = ()) -> HttpResponse:
        headers = [f"authorization: {self._tokens.current()}"]
        if encoded:
            headers.append(f"content-type: {_BATCH}")
        body = b"[" + b",".join(encoded) + b"]" if encoded else b""
        return await self._http.send(HttpRequest(method=method, url=url, headers=headers, body=body, owner=self._owner))

    async def verify(self) -> None:
        """Ask for the entity's description, which needs the right to manage it.

        A key that may only send is refused for that right after its signature was found good; no more can be known
        without sending.
        """
        response = await self._call("GET", f"{self._url}?api-version={self._service.api_version}")
        if response.status == HTTPStatus.UNAUTHORIZED and "claim" in azure.said(response).lower():
            return
        if response.status != HTTPStatus.OK:
            raise self._refused(response)
        if b"<entry" not in response.body:  # for what is not there the answer is an empty feed
            raise DeliveryError(self._service.missing, f"There is no {self._what}", retryable=False)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""

    def _refused(self, response: HttpResponse) -> DeliveryError:
        service = self._service
        return azure.refused(response, service=service.name, missing=service.missing, what=self._what)
