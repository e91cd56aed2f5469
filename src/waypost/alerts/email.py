"""E-mail through the operator's mail server: one connection for each message, and never in clear by accident."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from html import escape
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from msgspec import Meta, Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.options import own_options
from waypost.connect.service import clip, plain_text
from waypost.core.errors import DeliveryError, SettingsError
from waypost.core.model import SECOND
from waypost.net.authorities import system_bundle
from waypost.net.dial import network_error
from waypost.net.exchange import clean_header_value
from waypost.net.failure import one_line
from waypost.net.hosts import HostPort, parse_host
from waypost.net.names import ascii_name
from waypost.net.resolve import GuardedResolver, Resolver, SystemResolver

_SERVER = "The mail server"
_MOST_RECIPIENTS = 20
_LONGEST_LIST = 4_096
_LONGEST_ADDRESS = 254
_LONGEST_LOCAL_PART = 64
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_LONGEST_SUBJECT = 200
_SHOWN_OF_A_REPLY = 500
_PERMANENT = 500
"""From this reply code on, the server will not think better of it."""
_GOODBYE = 2.0
"""How long a server may take to answer QUIT (seconds); the message is with it already."""
_POLICY = SMTP_POLICY.clone(cte_type="7bit")
_COLOURS = {"info": "#2f6fde", "warning": "#c77700", "critical": "#c62828"}

Security = Literal["starttls", "tls", "none"]
_SCHEMES: dict[str, tuple[Security, int]] = {
    "smtp": ("starttls", 587),
    "smtps": ("tls", 465),
    "smtp+plain": ("none", 25),
}


class EmailOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for e-mail: the options `email_<name>`.

    - `server` is a URL: `smtp://user:password@host:587` (STARTTLS, without which nothing is sent), `smtps://...:465`
      (TLS from the start), or `smtp+plain://localhost:25` (in clear, for a relay on the same machine).
    - `from` is the sender's address, with or without a name before it: `Waypost <alerts@example.com>`.
    - `ca_file` is a PEM file of authorities trusted in addition to the system's.
    - `timeout` is for the whole exchange with the server, in seconds.
    """

    server: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)
    ca_file: str | None = None
    timeout: Annotated[float, Meta(gt=0)] = 30.0


class MailServer(Struct, frozen=True, kw_only=True):
    """The operator's mail server, and in whose name it is used."""

    at: HostPort
    security: Security
    username: str | None
    password: str
    sender: Address
    ca_file: str | None
    timeout: float


def server_of(options: Mapping[str, Any]) -> MailServer | None:
    """The mail server that the options name, if any. Raises SettingsError for an option that is unknown or wrong."""
    found = own_options("email", options, EmailOptions)
    if found.server is None:
        return None
    try:
        return _parse(found.server, found)
    except ValueError as error:
        raise SettingsError(f"email options: {error}") from None  # the URL, in what caused it, holds a password


def recipients_of(text: str) -> tuple[str, ...]:
    """The addresses of a comma-separated list. Raises ValueError with the end of a sentence ("must ...")."""
    addresses = tuple(dict.fromkeys(_in_ascii(part.strip(" ")) for part in text.split(",")))
    if len(addresses) > _MOST_RECIPIENTS:
        raise ValueError(f"must have at most {_MOST_RECIPIENTS} addresses")
    wrong = next((address for address in addresses if not _is_address(address)), None)
    if wrong is not None:
        raise ValueError(f"must be addresses such as ops@example.com, separated by commas: {wrong!r} is none")
    return addresses


class EmailType(ChannelType):
    type: ClassVar[str] = "email"
    borrows: ClassVar[bool] = True
    label: ClassVar[str] = "E-mail"
    description: ClassVar[str] = "Send alerts by e-mail."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<rect x="3" y="5" width="18" height="14" rx="2"/><path d="m3 7 9 6 9-6"/></svg>'
    )
    instructions: ClassVar[str] = """\
Enter the addresses that get the alerts. Everybody on the list sees the others; a mailing list or a shared mailbox is
one address. Mail programs can sort alerts by their header `X-Waypost-Topic`, and a message that has to be sent twice
has the same `Message-ID`.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="to",
            label="To",
            description=f"One address, or up to {_MOST_RECIPIENTS} separated by commas.",
            required=True,
            maxlength=_LONGEST_LIST,
            placeholder="ops@example.com, on-call@example.com",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        server = server_of(options)
        try:
            _context(server.ca_file) if server is not None else None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise SettingsError(f"email_ca_file cannot be used: {error}") from error

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        if server_of(tools.options) is None:
            return ["config.to cannot be written to: the operator has not set up e-mail (WAYPOST_SMTP_URL)"]
        try:
            recipients_of(config["to"])
        except ValueError as error:
            return [f"config.to {error}"]
        return []

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return config["to"]

    def addressees(self, config: dict[str, str]) -> tuple[str, ...]:
        return recipients_of(config["to"])

    def addressed(self, config: dict[str, str], addressee: str) -> dict[str, str]:
        return config | {"to": addressee}

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        server = server_of(tools.options)
        if server is None:
            raise DeliveryError("configuration_error", "No mail server is set up (WAYPOST_SMTP_URL)", retryable=False)
        context = await asyncio.to_thread(_context, server.ca_file)
        resolver = GuardedResolver(SystemResolver(), tools.guard.for_operators())
        return EmailConnection(server, resolver, context, recipients_of(channel.config["to"]))


class EmailConnection:
    """Sends messages to one list of recipients."""

    def __init__(
        self, server: MailServer, resolver: Resolver, tls: ssl.SSLContext, recipients: tuple[str, ...]
    ) -> None:
        self._server = server
        self._resolver = resolver
        self._tls = tls
        self._recipients = recipients

    async def send(self, notice: Notice) -> Receipt:
        message = compose(notice, self._server.sender, self._recipients).as_bytes()
        client = SMTP(
            hostname=self._server.at.host,
            local_hostname=self._server.sender.domain,
            use_tls=self._server.security == "tls",
            start_tls=False,
            tls_context=self._tls,
            timeout=None,
        )
        try:
            refused, reply = await self._deliver(client, message)
            with contextlib.suppress(SMTPException):
                await client.quit(timeout=_GOODBYE)
        finally:
            client.close()
        response: dict[str, Any] = {"message": one_line(reply, _SHOWN_OF_A_REPLY)}
        if refused:
            response["refused"] = {address: _shown(*answer) for address, answer in refused.items()}
        return Receipt(code="250", response=response)

    async def close(self) -> None:
        """There is nothing to close: every message has a connection of its own."""

    async def _deliver(self, client: SMTP, message: bytes) -> tuple[dict[str, SMTPResponse], str]:
        """Hand the message over. Returns whom the server refused, and what it said to the rest."""
        try:
            async with asyncio.timeout(self._server.timeout):
                await self._open(client)
                return await client.sendmail(self._server.sender.addr_spec, self._recipients, message)
        except (SMTPException, OSError) as error:
            raise _failure(error) from error

    async def _open(self, client: SMTP) -> None:
        """Connect, and do all that has to come before a message. Nothing is sent in clear where TLS is asked for."""
        await client.connect(sock=await _socket(self._server.at, self._resolver))
        if self._server.security == "starttls":
            await client.ehlo()
            if not client.supports_extension("starttls"):
                raise DeliveryError("tls_error", f"{_SERVER} does not offer STARTTLS", retryable=False)
            await client.starttls()
        if self._server.username is not None:
            await client.ehlo()
            sign_in = client.auth_plain if "plain" in client.server_auth_methods else client.auth_login
            await sign_in(self._server.username, self._server.password)


def compose(notice: Notice, sender: Address, recipients: tuple[str, ...]) -> EmailMessage:
    """The notice as a message, the same for every try."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = clip(_one_line(notice.title) or notice.topic, _LONGEST_SUBJECT)
    message["Date"] = datetime.fromtimestamp(notice.time / SECOND, UTC)
    message["Message-ID"] = f"<{notice.id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Waypost-Topic"] = _one_line(notice.topic)
    message.set_content(plain_text(notice))
    message.add_alternative(_html(notice), subtype="html")
    return message


def _one_line(text: str) -> str:
    return clean_header_value(" ".join(text.splitlines()))


def _html(notice: Notice) -> str:
    rows = "\n".join(
        f'<tr><th style="padding:4px 16px 4px 0;text-align:left;vertical-align:top;font-weight:normal;color:#667">'
        f'{escape(label)}</th><td style="padding:4px 0;word-break:break-word">{escape(value)}</td></tr>'
        for label, value in notice.facts
    )
    button = (
        f'<p style="margin:24px 0 0"><a href="{escape(notice.link)}" style="padding:10px 16px;border-radius:4px;'
        'background:#1c2430;color:#fff;text-decoration:none">Open in Waypost</a></p>'
        if notice.link
        else ""
    )
    title, colour = escape(notice.title), _COLOURS[notice.severity]
    return f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body style="margin:0;padding:24px;background:#f4f5f7;color:#1c2430;font:15px/1.5 sans-serif">
<div style="max-width:600px;margin:0 auto;padding:24px;background:#fff;border-top:4px solid {colour}">
<h1 style="margin:0 0 12px;font-size:18px">{title}</h1>
<p style="margin:0 0 16px;white-space:pre-line">{escape(notice.text)}</p>
<table style="border-collapse:collapse">
{rows}
</table>
{button}
</div></body></html>
"""


def _parse(url: str, options: EmailOptions) -> MailServer:
    """Raises ValueError with a sentence that does not repeat the URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("server must be a URL such as smtp://user:password@mail.example.com:587") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"server must start with one of: {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("server must end after the port; a password's special characters are written as %XX")
    security, port = _SCHEMES[parts.scheme]
    login, _, host = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    if login and not (username and password):
        raise ValueError("server must have both a user name and a password, or neither")
    if login and security == "none":
        raise ValueError("server must not have a password where nothing is encrypted (smtp+plain)")
    return MailServer(
        at=_host(host, port),
        security=security,
        username=unquote(username) or None,
        password=unquote(password),
        sender=_sender(options.sender),
        ca_file=options.ca_file,
        timeout=options.timeout,
    )


def _host(text: str, port: int) -> HostPort:
    try:
        return parse_host(text, default_port=port)
    except ValueError as error:
        raise ValueError(f"server {error}") from None


def _sender(text: str | None) -> Address:
    if text is None:
        raise ValueError("from must be set where server is")
    found: tuple[Address, ...] = _POLICY.header_factory("from", text).addresses if text.isprintable() else ()
    address = _in_ascii(found[0].addr_spec) if len(found) == 1 else ""
    if not _is_address(address):
        raise ValueError("from must be an address such as alerts@example.com or Waypost <alerts@example.com>")
    return Address(found[0].display_name, addr_spec=address)


def _in_ascii(address: str) -> str:
    """The address with its domain as it is looked up; unchanged where that cannot be done."""
    local, at, domain = address.rpartition("@")
    try:
        return f"{local}{at}{domain if domain.isascii() else ascii_name(domain)}"
    except ValueError:
        return address


def _is_address(text: str) -> bool:
    return (
        _ADDRESS.fullmatch(text) is not None
        and len(text) <= _LONGEST_ADDRESS
        and text.index("@") <= _LONGEST_LOCAL_PART
    )


def _context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts the system's authorities and those in the file. Raises OSError or ValueError for an unusable file."""
    context = ssl.create_default_context(cafile=system_bundle())
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


async def _socket(server: HostPort, resolver: Resolver) -> socket.socket:
    """A connection to the first of the server's addresses that answers."""
    trouble: OSError = ConnectionError()
    for address in await resolver.addresses(server.host, server.port):
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, (address, server.port))
        except OSError as error:
            opened.close()
            trouble = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    try:
        raise trouble
    finally:
        del trouble  # it knows this frame


def _failure(error: SMTPException | OSError) -> DeliveryError:
    if isinstance(error, SMTPRecipientsRefused):
        return _nobody(error.recipients)
    if isinstance(error, SMTPAuthenticationError) and error.code >= _PERMANENT:
        return DeliveryError("bad_credentials", f"{_SERVER} does not accept the sign-in", retryable=False)
    if isinstance(error, SMTPResponseException):
        return _refusal(error.code, error.message)
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return network_error(ConnectionResetError() if isinstance(cause, SMTPServerDisconnected) else cause, _SERVER)


def _nobody(refused: list[SMTPRecipientRefused]) -> DeliveryError:
    """All recipients were refused; one of them for the time being is enough to try again."""
    first = min(refused, key=lambda refusal: refusal.code >= _PERMANENT)
    error = _refusal(first.code, first.message)
    error.response = {"refused": {refusal.recipient: _shown(refusal.code, refusal.message) for refusal in refused}}
    return error


def _refusal(code: int, message: str) -> DeliveryError:
    if code < 0:
        return DeliveryError("protocol_error", f"{_SERVER} does not speak SMTP")
    return DeliveryError(str(code), f"{_SERVER} answered {_shown(code, message)}", retryable=code < _PERMANENT)


def _shown(code: int, message: str) -> str:
    return clip(f"{code} {one_line(message, _SHOWN_OF_A_REPLY)}", _SHOWN_OF_A_REPLY)
