"""What the Google Cloud destination types have in common: the key, the endpoint, the way to an API with a token."""

from __future__ import annotations

from waypost.connect.connector import Tools
from waypost.connect.fields import Field
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.google.api import GoogleApi
from waypost.net.google.token import AccessTokens, parse_service_account
from waypost.net.target import parse_url

SERVICE_ACCOUNT_FIELD = Field(
    key="service_account_json",
    label="Service account key",
    description="The JSON file with a service account's key, as a whole.",
    required=True,
    sensitive=True,
    maxlength=20_000,
    placeholder='{"type": "service_account", ...}',
)


def endpoint_url(endpoint: str | None) -> str | None:
    """The URL that an endpoint stands for; a bare host:port is an emulator's, as in PUBSUB_EMULATOR_HOST."""
    if not endpoint:
        return None
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    return url.rstrip("/")


def _is_open(endpoint: str | None) -> bool:
    """Whether requests go out without TLS: then no token travels with them."""
    return (endpoint_url(endpoint) or "").startswith("http://")


def endpoint_problems(endpoint: str | None, tools: Tools) -> list[str]:
    """What is wrong with the endpoint, as sentences that start with its path. Offline."""
    url = endpoint_url(endpoint)
    return [] if url is None else _url_problems("config.endpoint", url, tools)


def key_problems(endpoint: str | None, text: str, tools: Tools) -> list[str]:
    """What is wrong with the service account's key. An emulator takes any."""
    path = "credentials.service_account_json"
    if _is_open(endpoint):
        return []
    try:
        account = parse_service_account(text)
    except ValueError as error:
        return [f"{path} {error}"]
    return _url_problems(f"{path} (token_uri)", account.token_uri, tools)


def _url_problems(path: str, url: str, tools: Tools) -> list[str]:
    try:
        target = parse_url(url)
    except ValueError as error:
        return [f"{path} {error}"]
    refusal = tools.guard.host_refusal(target.host)
    return [] if refusal is None else [f"{path} is not allowed: {refusal}"]


def api_of(destination: Destination, scope: str, tools: Tools) -> GoogleApi:
    """The API with the destination's key. Raises DeliveryError for a key that cannot be used."""
    if _is_open(destination.config.get("endpoint")):
        return GoogleApi(tools.http, None, owner=destination.tenant_id)
    try:
        account = parse_service_account(destination.credentials["service_account_json"])
    except ValueError as error:
        sentence = f"The service account key {error}"
        raise DeliveryError("configuration_error", sentence, retryable=False) from None
    owner = destination.tenant_id
    return GoogleApi(tools.http, AccessTokens(tools.http, account, scope, owner=owner), owner=owner)
