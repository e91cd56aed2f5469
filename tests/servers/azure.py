"""A namespace of Service Bus or Event Hubs as its HTTPS interface is documented, without Azure.

There is no emulator of that interface. This one checks signatures for real, by itself: what is signed, with which key,
for which path, until when. It answers with Azure's statuses and error bodies, and keeps what it gets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import unquote, unquote_plus
from xml.sax.saxutils import escape

from msgspec import Struct

from tests.servers.https import Receive, Scope, Send, answer, body_of

BATCH = "application/vnd.microsoft.servicebus.json"
_MOST_SECONDS = 7 * 86_400
_RIGHTS = {"Send", "Listen", "Manage"}


class Rule(Struct, frozen=True):
    """A shared access policy: its key, what it is for (a path, `/` for the whole namespace) and what it may do."""

    key: str
    path: str = "/"
    rights: frozenset[str] = frozenset({"Send"})


class Kept(Struct, frozen=True):
    """A message as the entity has it."""

    body: bytes
    broker: dict[str, Any]
    properties: dict[str, str]


class Refusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Namespace:
    """`entities` are the queues, topics or event hubs by name, `rules` the policies; `faults` replace next answers."""

    def __init__(self, *entities: str, largest: int = 262_144) -> None:
        self.entities: dict[str, list[Kept]] = {name: [] for name in entities}
        self.rules = {"sender": Rule("a-senders-key+/=")}
        self.largest = largest
        self.faults: list[tuple[int, str, dict[str, str]]] = []
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.one_partition_key_a_batch = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        method, path = scope["method"], unquote(scope["raw_path"].decode())
        self.requests.append((method, path))
        try:
            status, content, more = self._respond(method, path, headers, body)
        except Refusal as refusal:
            status, content, more = refusal.status, _error(refusal.status, refusal.detail), {}
        await answer(send, status, content, "application/xml; charset=utf-8", more)

    def _respond(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        rights = self._rights(headers, path)
        if self.faults:
            status, detail, more = self.faults.pop(0)
            return status, _error(status, detail), more
        if method == "GET":
            return 200, self._described(path, rights), {}
        if method != "POST" or not path.endswith("/messages"):
            raise Refusal(405, "The specified HTTP verb is not valid.")
        if "Send" not in rights:
            raise Refusal(401, "Send claim is required for this operation.")
        name = path.removeprefix("/").removesuffix("/messages").lower()
        if name not in self.entities:
            raise Refusal(404, f"The messaging entity 'sb:/{path}' could not be found.")
        self.entities[name] += self._messages(headers, body)
        return 201, b"", {}

    # who may

    def _rights(self, headers: dict[str, str], path: str) -> frozenset[str]:
        scheme, _, fields = headers.get("authorization", "").partition(" ")
        if scheme != "SharedAccessSignature":
            raise Refusal(401, "MissingToken: the authorization header was not found.")
        self.tokens.add(fields)
        token = dict(field.split("=", 1) for field in fields.split("&"))
        if set(token) != {"sr", "sig", "se", "skn"}:
            raise Refusal(401, "MalformedToken: the token has other fields than sr, sig, se and skn.")
        rule = self.rules.get(unquote_plus(token["skn"]))
        if rule is None:
            raise Refusal(401, "InvalidSignature: The token has an invalid signature.")
        digest = hmac.new(rule.key.encode(), f"{token['sr']}\n{token['se']}".encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(digest).decode(), unquote_plus(token["sig"])):
            raise Refusal(401, "InvalidSignature: The token has an invalid signature.")
        now = time.time()
        if not now < int(token["se"]) <= now + _MOST_SECONDS:
            raise Refusal(401, "ExpiredToken: The token is expired.")
        self._check_scope(unquote_plus(token["sr"]), rule, headers["host"], path)
        return rule.rights

    def _check_scope(self, resource: str, rule: Rule, host: str, path: str) -> None:
        audience = resource.partition("://")[2]
        where, _, entity = audience.partition("/")
        if where != host or not f"{path.lower()}/".startswith(f"/{unquote(entity)}".rstrip("/") + "/"):
            raise Refusal(401, "InvalidAudience: the token is for another resource.")
        if not path.lower().startswith(rule.path.lower()):
            raise Refusal(401, "InvalidSignature: The token has an invalid signature.")

    # what is there

    def _described(self, path: str, rights: frozenset[str]) -> bytes:
        if "Manage" not in rights:
            raise Refusal(401, "Manage,EntityRead claims required for this operation.")
        name = path.removeprefix("/")
        if name.lower() not in self.entities:
            return (
                b'<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Publicly Listed Services</title></feed>'
            )
        return f'<entry xmlns="http://www.w3.org/2005/Atom"><title type="text">{escape(name)}</title></entry>'.encode()

    # what comes

    def _messages(self, headers: dict[str, str], body: bytes) -> list[Kept]:
        if headers.get("content-type") != BATCH:
            raise Refusal(400, "The content type is not that of a batch.")
        if len(body) > self.largest:
            raise Refusal(403, f"The message is too large: its size of {len(body)} bytes exceeds {self.largest} bytes.")
        kept = [_kept(one) for one in json.loads(body)]
        if len({one.broker.get("PartitionKey", one.broker.get("SessionId")) for one in kept}) > 1:
            raise Refusal(400, "A batch must have one partition key.")
        if self.one_partition_key_a_batch and len(kept) > 1:
            raise Refusal(400, "Messages with different ids cannot share a batch here.")
        return kept


def _kept(one: dict[str, Any]) -> Kept:
    if set(one) - {"Body", "BrokerProperties", "UserProperties"} or not isinstance(one["Body"], str):
        raise Refusal(400, "A message of the batch cannot be read.")
    broker, properties = one.get("BrokerProperties", {}), one.get("UserProperties", {})
    for key in ("MessageId", "SessionId", "PartitionKey"):
        if len(broker.get(key, "")) > 128:
            raise Refusal(400, f"{key} is too long.")
    if not all(isinstance(value, str) for value in properties.values()):
        raise Refusal(400, "These tests send nothing but texts.")
    return Kept(one["Body"].encode(), broker, properties)


def _error(status: int, detail: str) -> bytes:
    tracking = "TrackingId:11111111-2222-3333-4444-555555555555_G1, Timestamp:2026-01-01T00:00:00"
    return f"<Error><Code>{status}</Code><Detail>{escape(detail)} {tracking}</Detail></Error>".encode()
