"""A small client of Waypost's own HTTP API, for the commands that talk to a running server."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from waypost import settings as settings_module
from waypost.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unauthorized,
    Unavailable,
    WaypostError,
)
from waypost.settings import Settings

SERVER_VARIABLE = "WAYPOST_URL"
ADMIN_KEY_FILE = "waypost.admin-key"
API = "/api/v1"
_SERVICE_UNAVAILABLE = 503
_REFUSALS: dict[int, type[Refused]] = {
    kind.status: kind for kind in (BadRequest, Forbidden, NotFound, Conflict, TooLarge)
}


class ServerUnreachable(WaypostError):
    """Nothing answers at the server's address, or what answers is not Waypost."""


class ServerFailed(WaypostError):
    """The server answered with an error of its own (5xx)."""


class Published(Struct, frozen=True):
    """The server's answer to a publish: the event's id, and the destinations that will get it."""

    id: str
    duplicate: bool
    destination_ids: tuple[str, ...]


class Client:
    """Asks one server, with one admin key. Every call opens its own connection; `timeout` is in seconds.

    Every call raises a `Refused` for an HTTP 4xx, `Unavailable` for 503, `ServerFailed` for the other 5xx and
    `ServerUnreachable` when there is no answer at all.
    """

    def __init__(self, server: str, api_key: str, *, timeout: float = 30.0) -> None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise BadRequest("the admin key has characters that no key has: was it copied whole?")
        self._url = _server_address(server)
        self._headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        self._timeout = timeout

    @property
    def server(self) -> str:
        return self._url.geturl()

    def publish(
        self,
        *,
        tenant: str,
        data: bytes,
        topic: str | None = None,
        event_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Published:
        """Publish one event. `data` is the text of a JSON object, sent byte for byte."""
        event = {"id": event_id, "tenant_id": tenant, "topic": topic, "metadata": dict(metadata or {}) or None}
        body = {name: value for name, value in event.items() if value is not None} | {"data": msgspec.Raw(data)}
        return msgspec.convert(self.request("POST", "/publish", body), Published)

    def ensure_tenant(self, tenant: str) -> bool:
        """Create the tenant when it is missing; one that exists keeps its metadata. True when it is new."""
        path = f"/tenants/{quote(tenant, safe='')}"
        try:
            self.request("GET", path)
        except NotFound:
            self.request("PUT", path, {})
            return True
        return False

    def add_webhook(self, tenant: str, url: str, topics: Iterable[str] = ("*",), **more: Any) -> dict[str, Any]:
        """Create a webhook destination and return it as the server shows it, its signing secret included.

        `more` are further fields of the destination.
        """
        patterns = list(topics)
        body = {"type": "webhook", "topics": "*" if patterns == ["*"] else patterns, "config": {"url": url}}
        answer: dict[str, Any] = self.request("POST", _destinations(tenant), body | more)
        return answer

    def delete_destination(self, tenant: str, destination: str) -> None:
        self.request("DELETE", f"{_destinations(tenant)}/{quote(destination, safe='')}")

    def attempts(self, **query: str | int) -> list[dict[str, Any]]:
        """One page of attempts, newest first. `query` holds the parameters of `GET /attempts`."""
        page: dict[str, Any] = self.request("GET", f"/attempts?{urlencode(query)}")
        models: list[dict[str, Any]] = page["models"]
        return models

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API: `path` below `/api/v1`, `body` as JSON; the decoded answer."""
        status, content = self.exchange(method, API + path, b"" if body is None else msgspec.json.encode(body))
        answer = self._decoded(content)
        if status >= http.client.BAD_REQUEST:
            raise self._error(status, answer)
        return answer

    def exchange(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """One HTTP exchange: status and body of the answer, whatever they are."""
        connection = self._connection()
        try:
            connection.request(method, self._url.path.rstrip("/") + path, body or None, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(
                f"no Waypost answers at {self.server} ({_reason(error)}): start one with `waypost serve`, "
                f"or name the right address with --server or {SERVER_VARIABLE}"
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=self._timeout)

    def _decoded(self, content: bytes) -> Any:
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            raise ServerUnreachable(
                f"{self.server} does not answer as Waypost does: is it another program's address?"
            ) from None

    def _error(self, status: int, answer: Any) -> WaypostError:
        sentence = _sentence(answer)
        if status >= http.client.INTERNAL_SERVER_ERROR:
            return (Unavailable if status == _SERVICE_UNAVAILABLE else ServerFailed)(f"{self.server}: {sentence}")
        if status == Unauthorized.status:
            return Unauthorized(f"{self.server} does not know this admin key ({sentence})")
        if status == Invalid.status:
            return Invalid(message=sentence)
        return _REFUSALS.get(status, Refused)(sentence)


def connect(server: str | None = None, api_key: str | None = None) -> Client:
    """A client for the server and admin key that were named, or else for what the environment and settings say.

    The server: `WAYPOST_URL`, else where a `waypost serve` with the same settings listens. The key: `WAYPOST_API_KEY`
    or `WAYPOST_API_KEY_FILE`, else the key that `waypost serve` saved beside its database, which is only ever sent to
    this machine. Raises SettingsError and BadRequest.
    """
    settings = settings_module.load(api_key=api_key)
    address = server or os.environ.get(SERVER_VARIABLE)
    ours = address is None or _is_this_machine(_server_address(address))
    return Client(address or _own_address(settings), _admin_key(settings, look_on_disk=ours))


def admin_key_file(settings: Settings) -> Path:
    """Where `waypost serve` saves the admin key it generates: beside the database file."""
    return settings.sqlite_path.parent / ADMIN_KEY_FILE


def save_admin_key(settings: Settings, key: str) -> Path:
    """Keep a generated admin key for the commands of this machine, readable by its owner alone."""
    path = admin_key_file(settings)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{key}\n")
    return path


def publish(
    *,
    tenant: str,
    data: str,
    stdin: BinaryIO,
    topic: str | None = None,
    event_id: str | None = None,
    metadata: Iterable[str] = (),
    server: str | None = None,
    api_key: str | None = None,
) -> Published:
    """`waypost publish`: send one event. `data` is JSON, `@file`, or `-` for `stdin`; `metadata` are `key=value`."""
    content = read_data(data, stdin)
    pairs = read_metadata(metadata)
    client = connect(server, api_key)
    return client.publish(tenant=tenant, data=content, topic=topic, event_id=event_id, metadata=pairs)


def read_data(data: str, stdin: BinaryIO) -> bytes:
    """The event's data named on a command line: JSON itself, `@file`, or `-` for `stdin`.

    Raises BadRequest when it cannot be read or is not a JSON object.
    """
    content = _source(data, stdin)
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"data is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("data must be a JSON object, for example '{\"id\": 1}'")
    return content.strip()


def read_metadata(pairs: Iterable[str]) -> dict[str, str]:
    """`key=value` options as a mapping. Raises BadRequest."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise BadRequest(f"metadata must be key=value, not {pair!r}")
        metadata[key] = value
    return metadata


def _source(data: str, stdin: BinaryIO) -> bytes:
    if data == "-":
        return stdin.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise BadRequest(f"data: cannot read {data[1:]}: {error.strerror}") from None


def _admin_key(settings: Settings, *, look_on_disk: bool) -> str:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    path = admin_key_file(settings)
    if look_on_disk and path.exists():
        return _read_key(path)
    where = f" or run this where the server keeps {path}" if look_on_disk else ""
    raise BadRequest(f"an admin key is needed: give --api-key, set WAYPOST_API_KEY{where}")


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read the admin key in {path}: {error}") from None


def _own_address(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104  what to call, not bind
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{bracketed}:{settings.port}"


def _server_address(server: str) -> SplitResult:
    try:
        url = urlsplit(server)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise BadRequest(f"server must be a URL like http://127.0.0.1:3333, not {server!r}")
    return url


def _is_this_machine(url: SplitResult) -> bool:
    try:
        return ip_address(url.hostname or "").is_loopback
    except ValueError:
        return url.hostname == "localhost"


def _destinations(tenant: str) -> str:
    return f"/tenants/{quote(tenant, safe='')}/destinations"


def _sentence(answer: Any) -> str:
    message = str(answer.get("message", answer)) if isinstance(answer, dict) else str(answer)
    data = answer.get("data") if isinstance(answer, dict) else None
    details = [f"{name} {text}" for name, text in data.items()] if isinstance(data, dict) else data or []
    return f"{message}: {'; '.join(map(str, details))}" if details else message


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
