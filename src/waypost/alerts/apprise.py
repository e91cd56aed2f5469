"""Apprise: the services that Waypost has no channel of its own for, through the library of that name.

The library connects by itself, past the address guard. So the operator has to allow it, and what it offers to do with
the machine that it runs on (desktop messages, the system log, files) is switched off. It reads answers without bound
and cannot be interrupted; therefore each message is sent by a process of its own, which has little memory, sees none of
our settings, reaches nothing that the operator denies, and is ended when its time is over.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from ipaddress import ip_network
from types import ModuleType
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.options import own_options
from waypost.connect.service import plain_text
from waypost.core.errors import DeliveryError
from waypost.net.guard import AddressGuard

_ON_THIS_MACHINE = (
    *("dbus", "glib", "gio", "gnome", "kde", "qt", "macosx", "windows"),  # desktops; some run commands
    *("syslog", "blink1"),  # the system log, a USB device
    "vapid",  # reads and writes key files
)
_PATIENCE = 30.0
"""Seconds that a message may take. The library's own limits are shorter, unless the URL sets others."""
_MOST_MEMORY = 1 << 30
"""Of a process, in bytes of addresses; the library alone takes a quarter."""
_AT_ONCE = 2
"""Processes of one channel."""
_PASSED_ON = (
    *("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_FORBIDDEN = "the operator of this server does not allow Apprise (apprise_allowed)"


class AppriseOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for Apprise: the options `apprise_<name>`.

    - `allowed`: channels may use Apprise, and so reach any address that this machine reaches.
    """

    allowed: bool = False


def options_of(options: Mapping[str, Any]) -> AppriseOptions:
    """The options that concern Apprise. Raises SettingsError for one that is unknown or wrong."""
    return own_options("apprise", options, AppriseOptions)


class AppriseType(ChannelType):
    type: ClassVar[str] = "apprise"
    borrows: ClassVar[bool] = True
    label: ClassVar[str] = "Apprise"
    description: ClassVar[str] = "Send alerts to any of the services that Apprise knows."
    extra: ClassVar[str | None] = "apprise"
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<path d="M4 10v4l11 5V5zM15 9a3 3 0 0 1 0 6M7 15.500 8.500 20H11l-1.500-3.500"/></svg>'
    )
    instructions: ClassVar[str] = """\
Enter one URL as [Apprise](https://appriseit.com/services/) describes it for the service, such as
`ntfys://ntfy.example.com/alerts` or `matrixs://user:password@matrix.example.com/#ops`. Services that act on the machine
itself (desktop messages, the system log) and local files are not available.

Apprise does not tell what a service answered: of a failure, only the fact is known. Where there is a channel for the
service itself, prefer it.
"""
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="url",
            label="Apprise URL",
            description="Where to send, with everything that is needed to sign in.",
            required=True,
            sensitive=True,
            maxlength=2_048,
            pattern=r"[A-Za-z0-9]{1,32}://.*",
            pattern_hint="a URL such as ntfys://ntfy.example.com/alerts",
            placeholder="ntfys://ntfy.example.com/alerts",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        options_of(options)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        if not options_of(tools.options).allowed:
            return [f"credentials.url cannot be used: {_FORBIDDEN}"]
        try:
            usable = _is_usable(credentials["url"])
        except ImportError:
            return [f"credentials.url cannot be used: {self.missing_extra()}"]
        return [] if usable else ["credentials.url must be a URL that Apprise can send to without using this machine"]

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return f"{credentials['url'].partition('://')[0]}:// by Apprise"

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        if not options_of(tools.options).allowed:
            raise DeliveryError("configuration_error", f"Nothing was sent: {_FORBIDDEN}", retryable=False)
        url = channel.credentials["url"]
        try:
            usable = await asyncio.to_thread(_is_usable, url)
        except ImportError as error:
            raise self.missing_extra() from error
        if not usable:
            raise DeliveryError("configuration_error", "Apprise cannot use the URL", retryable=False)
        return AppriseConnection(url, [str(network) for network in tools.guard.denied_networks])


class Errand(Struct, frozen=True, kw_only=True):
    """What a process of its own is to send, and the networks that it may not reach."""

    url: str
    title: str
    body: str
    kind: str
    denied: list[str]


class AppriseConnection:
    """Sends to one URL, each message from a process of its own."""

    def __init__(self, url: str, denied: list[str]) -> None:
        self._url = url
        self._denied = denied
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def send(self, notice: Notice) -> Receipt:
        kind = {"info": "info", "warning": "warning", "critical": "failure"}[notice.severity]
        errand = Errand(
            url=self._url,
            title=notice.title,
            body=plain_text(notice),
            kind="success" if notice.resolves else kind,
            denied=self._denied,
        )
        try:
            async with asyncio.timeout(_PATIENCE), self._places:
                delivered = await _done(errand)
        except TimeoutError:
            raise DeliveryError("timeout", f"Apprise did not deliver the message within {_PATIENCE:g} s") from None
        if not delivered:
            raise DeliveryError("apprise_failed", "Apprise could not deliver the message")
        return Receipt(code="ok")

    async def close(self) -> None:
        """There is nothing to close: every message has a process of its own."""


async def _done(errand: Errand) -> bool:
    """Have a process do it; it does not outlive this call."""
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=nothing,
        stderr=nothing,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    try:
        await process.communicate(msgspec.json.encode(errand))
        return process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _library() -> ModuleType:
    """Apprise with what concerns this machine switched off, for the whole process. Raises ImportError."""
    apprise = import_module("apprise")
    import_module("apprise.manager_plugins").NotificationManager().disable(*_ON_THIS_MACHINE)
    files = import_module("apprise.manager_attachment").AttachmentManager()["file"]
    files.location = apprise.ContentLocation.INACCESSIBLE
    return apprise


def _sender(url: str) -> Any:
    """Apprise's object for the URL; None for a URL that it does not know or that is switched off."""
    apprise = _library()
    return apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(app_id="Waypost", app_desc="Waypost"))


def _is_usable(url: str) -> bool:
    return _sender(url) is not None


def _notify(errand: Errand) -> bool:
    """Blocks until Apprise has delivered the message, or has not."""
    sender = _library().Apprise(_sender(errand.url))
    return bool(sender.notify(title=errand.title, body=errand.body, notify_type=errand.kind, body_format="text"))


def _refuse_denied(guard: AddressGuard, event: str, arguments: tuple[Any, ...]) -> None:
    """What the interpreter asks before each connection, whichever library makes it (PEP 578)."""
    if event in _CONNECTS and isinstance(arguments[1], tuple) and guard.kind(str(arguments[1][0])) is not None:
        raise PermissionError("an address that the operator denies")


def main() -> int:
    """Do the errand that stands in the input. 0 if the message was delivered."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    guard = AddressGuard(enabled=False, denied_networks=[ip_network(network) for network in errand.denied])
    sys.addaudithook(partial(_refuse_denied, guard))
    return 0 if _notify(errand) else 1


if __name__ == "__main__":
    sys.exit(main())
