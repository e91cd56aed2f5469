"""Text messages by Twilio: a form to the Messages API of one account."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.service import Service, base_url, check_base_url, clip
from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse

_E164 = r"\+[1-9][0-9]{1,14}"
_MESSAGING_SERVICE = "MG"
_LONGEST_BODY = 320
"""Twilio takes 1,600 characters and charges for every 153 of them."""
_LONGEST_LINK = 200
_SHOWN_OF_A_REASON = 300
_MEANINGS = {"401": "Twilio does not accept the auth token of this account or API key"}


class TwilioSmsType(ChannelType):
    type: ClassVar[str] = "twilio_sms"
    label: ClassVar[str] = "SMS (Twilio)"
    description: ClassVar[str] = "Send alerts as text messages through an account at Twilio."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<rect x="6" y="2" width="12" height="20" rx="2"/><path d="M9.500 8h5M9.500 12h3M12 18.500h.01"/></svg>'
    )
    instructions: ClassVar[str] = """\
In Twilio's console, copy the **Account SID** and the **Auth Token**. To use an API key in place of the account's token,
enter the key's SID and, as auth token, its secret.

Messages come from a phone number of the account or from a **Messaging Service**. Each is cut to 320 characters, which
Twilio charges as up to three messages, and ends with the link to the portal. A message can arrive twice when Twilio's
answer to the first try is lost.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="to",
            label="To",
            description="The phone number that gets the alerts.",
            required=True,
            pattern=_E164,
            pattern_hint="a phone number in international form, such as +14155550123",
            placeholder="+14155550123",
        ),
        Field(
            key="from",
            label="From",
            description="A phone number of the account, or the SID of a messaging service.",
            required=True,
            pattern=rf"{_E164}|{_MESSAGING_SERVICE}[0-9a-fA-F]{{32}}",
            pattern_hint="a phone number such as +14155550100, or MG and 32 hexadecimal digits",
            placeholder="+14155550100",
        ),
        Field(
            key="account_sid",
            label="Account SID",
            description="The account that sends.",
            required=True,
            pattern=r"AC[0-9a-fA-F]{32}",
            pattern_hint="AC and 32 hexadecimal digits",
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="auth_token",
            label="Auth token",
            description="The account's auth token, or the secret of the API key.",
            required=True,
            sensitive=True,
            maxlength=256,
        ),
        Field(
            key="api_key_sid",
            label="API key SID",
            description="The API key to sign in with, in place of the account itself.",
            advanced=True,
            pattern=r"SK[0-9a-fA-F]{32}",
            pattern_hint="SK and 32 hexadecimal digits",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type)

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return config["to"]

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        return TwilioSmsConnection(channel, tools)


class TwilioSmsConnection:
    """Posts messages from one sender to one phone."""

    def __init__(self, channel: Channel, tools: Tools) -> None:
        config, credentials = channel.config, channel.credentials
        token, account = credentials["auth_token"], config["account_sid"]
        basic = b64encode(f"{credentials.get('api_key_sid') or account}:{token}".encode()).decode()
        base = base_url(tools, "twilio_sms_base_url", "https://api.twilio.com")
        sender = "MessagingServiceSid" if config["from"].startswith(_MESSAGING_SERVICE) else "From"
        self._service = _Twilio("Twilio", tools.http, [basic, token], _MEANINGS)
        self._url = f"{base}/2010-04-01/Accounts/{account}/Messages.json"
        self._headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}"}
        self._form = {"To": config["to"], sender: config["from"], "SmartEncoded": "true"}

    async def send(self, notice: Notice) -> Receipt:
        form = urlencode({**self._form, "Body": body(notice)})
        return await self._service.post(self._url, form.encode(), self._headers)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""


class _Problem(Struct, frozen=True):
    """What Twilio says of a request that it refuses."""

    code: int
    message: str


class _Twilio(Service):
    def refusal(self, response: HttpResponse) -> DeliveryError:
        error = super().refusal(response)
        if error.code in _MEANINGS:
            return error
        try:
            problem = read_json(self.shown(response)["body"], type=_Problem)
        except msgspec.MsgspecError:
            return error
        return DeliveryError(
            error.code,
            f"Twilio refused the message: {clip(problem.message, _SHOWN_OF_A_REASON)} (error {problem.code})",
            retryable=error.retryable,
            retry_after=error.retry_after,
            response=error.response,
        )


def body(notice: Notice) -> str:
    """Title, text and link; what is too long is cut before the link."""
    link = f"\n{notice.link}" if notice.link and len(notice.link) <= _LONGEST_LINK else ""
    return clip(f"{notice.title.strip() or notice.topic}\n{notice.text}", _LONGEST_BODY - len(link)) + link
