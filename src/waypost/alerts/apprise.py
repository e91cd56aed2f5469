"""Apprise: the services that Waypost has no channel of its own for, through the library of that name.

The library connects by itself, past the address guard. So the operator has to allow it, and what it offers to do with
the machine that it runs on (desktop messages, the system log, files) is switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.options import own_options
from waypost.connect.service import plain_text
from waypost.core.errors import DeliveryError

_ON_THIS_MACHINE = (
    *("dbus", "glib", "gio", "gnome", "kde", "qt", "macosx", "windows"),  # desktops; some run commands
    *("syslog", "blink1"),  # the system log, a USB device
    "vapid",  # reads and writes key files
)
_PATIENCE = 30.0
"""Seconds that a message may take. The library's own limits are shorter, unless the URL sets others."""
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
        return AppriseConnection(url)


class AppriseConnection:
    """Sends to one URL, each message in a thread and with a sender of its own: Apprise's are not safe to share."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, notice: Notice) -> Receipt:
        try:
            async with asyncio.timeout(_PATIENCE):
                delivered = await asyncio.to_thread(_notify, self._url, notice)
        except TimeoutError:
            raise DeliveryError("timeout", f"Apprise did not deliver the message within {_PATIENCE:g} s") from None
        if not delivered:
            raise DeliveryError("apprise_failed", "Apprise could not deliver the message")
        return Receipt(code="ok")

    async def close(self) -> None:
        """There is nothing to close: every message has a connection of its own."""


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


def _notify(url: str, notice: Notice) -> bool:
    """Blocks until Apprise has delivered the message, or has not."""
    kind = {"info": "info", "warning": "warning", "critical": "failure"}[notice.severity]
    return bool(
        _library()
        .Apprise(_sender(url))
        .notify(
            title=notice.title,
            body=plain_text(notice),
            notify_type="success" if notice.resolves else kind,
            body_format="text",
        )
    )
