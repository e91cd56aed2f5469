"""Apprise, the library itself, against HTTP receivers that stand for the services it calls."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import apprise
import pytest
from apprise.manager_plugins import NotificationManager
from msgspec import structs

from tests.alerts.kit import NOON, complaints, connected, local_tools, notice
from tests.net.receivers import Answer, Exchange, Receiver, ok, receiver
from waypost.alerts.apprise import AppriseType
from waypost.connect.channel import Channel, ChannelConnection
from waypost.connect.connector import Receipt
from waypost.core.errors import DeliveryError, MissingExtra, SettingsError
from waypost.net.guard import AddressGuard

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""One of Apprise's plugins imports it, where Python still has it."""

KIND = AppriseType()
PASSWORD = "s3cret-passw0rd"


def channel(url: str) -> Channel:
    return Channel(
        no=1,
        id="chn_1",
        owner=None,
        type="apprise",
        name="on call",
        config={},
        credentials={"url": url},
        created_at=NOON,
        updated_at=NOON,
    )


@asynccontextmanager
async def connection_to(answer: Answer, query: str = "") -> AsyncIterator[tuple[ChannelConnection, Receiver]]:
    """A connection to a receiver on this machine, which the address guard would not let through."""
    async with receiver(answer) as server, local_tools(local=False, apprise_allowed=True) as tools:
        url = f"json://ops:{PASSWORD}@127.0.0.1:{server.port}/{PASSWORD}/{query}"
        async with connected(KIND, {}, {"url": url}, tools) as connection:
            yield connection, server


async def failure(answer: Answer, query: str = "") -> DeliveryError:
    async with connection_to(answer, query) as (connection, server):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert server.seen
    error = caught.value
    assert PASSWORD not in f"{error} {error.response} {error.request}"
    return error


@pytest.mark.parametrize(
    ("severity", "resolves", "kind"),
    [
        ("info", False, "info"),
        ("warning", False, "warning"),
        ("critical", False, "failure"),
        ("critical", True, "success"),
    ],
)
async def test_a_message(severity: str, resolves: bool, kind: str) -> None:
    async with connection_to(ok) as (connection, server):
        receipt = await connection.send(notice(severity=severity, resolves=resolves))
    (seen,) = server.seen
    # https://appriseit.com/services/json/
    posted = json.loads(seen.body)
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
    assert (posted["version"], posted["type"]) == ("1.0", kind)
    assert posted["title"] == notice().title
    assert posted["message"].startswith(notice().text)
    assert "Error: 503: the receiver answered 503 <Service Unavailable> & closed" in posted["message"]
    assert posted["message"].endswith(notice().link or "-")
    assert seen.headers["user-agent"] == "Waypost"
    assert receipt == Receipt(code="ok")


async def test_texts_are_escaped_where_a_service_wants_html() -> None:
    async with connection_to(ok, "?format=html") as (connection, server):
        await connection.send(notice(text="<script>alert(1)</script> & ${HOME} \\u0041"))
    message = json.loads(server.seen[0].body)["message"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; ${HOME} \\u0041" in message.replace("&nbsp;", " ")


@pytest.mark.parametrize("status", [400, 401, 429, 503])
async def test_a_service_that_does_not_take_it(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(status)

    error = await failure(refuse)
    assert (error.code, error.retryable) == ("apprise_failed", True)
    assert PASSWORD not in caplog.text


async def test_a_service_that_does_not_answer() -> None:
    error = await failure(Exchange.gone, "?rto=0.2")
    assert (error.code, error.retryable) == ("apprise_failed", True)


@pytest.mark.parametrize("denied", ["127.0.0.0/8", "10.0.0.0/8"])
async def test_what_the_operator_denies_is_not_reached(denied: str) -> None:
    async with receiver() as server, local_tools(apprise_allowed=True) as tools:
        guard = AddressGuard(denied_networks=[ip_network(denied)])
        url = f"json://localhost:{server.port}"
        async with connected(KIND, {}, {"url": url}, structs.replace(tools, guard=guard)) as connection:
            if denied.startswith("127"):
                with pytest.raises(DeliveryError, match="could not deliver"):
                    await connection.send(notice())
            else:
                await connection.send(notice())
    assert bool(server.seen) is not denied.startswith("127")


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has too little memory for it, or is ended in time; nothing stays behind."""
    monkeypatch.setattr("waypost.alerts.apprise._PATIENCE", 4.0)

    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                exchange.writer.write(b"x" * 65_536)
                await exchange.writer.drain()
                await asyncio.sleep(0.01)

    error = await failure(endless)
    assert error.code == "timeout"


async def test_the_process_sees_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_ENCRYPTION_KEY", PASSWORD)
    given: dict[str, Any] = {}
    start = asyncio.create_subprocess_exec

    async def note(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    async with connection_to(ok) as (connection, _):
        await connection.send(notice())
    assert "PATH" in given["env"]
    assert PASSWORD not in given["env"].values()


async def test_nobody_is_there() -> None:
    async with receiver() as server:
        port = server.port
    async with (
        local_tools(apprise_allowed=True) as tools,
        connected(KIND, {}, {"url": f"json://127.0.0.1:{port}"}, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert (caught.value.code, caught.value.retryable) == ("apprise_failed", True)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://host",
        "json://",
        "json://127.0.0.1, syslog://",
        "discord://only-an-id",
        "file:///etc/passwd",
        "config:///etc/apprise.yml",
        "syslog://",
        "SYSLOG://_/daemon",
        "dbus://",
        "kde://",
        "qt://",
        "glib://",
        "gio://",
        "gnome://",
        "macosx://",
        "windows://",
        "blink1://",
        "vapid://ops@example.com/ops@example.com?keyfile=/etc/passwd",
    ],
)
async def test_what_is_no_service_or_acts_on_this_machine(url: str) -> None:
    async with local_tools(apprise_allowed=True) as tools:
        assert complaints(KIND, {}, {"url": url}, tools) == [
            "credentials.url must be a URL that Apprise can send to without using this machine"
        ]
        with pytest.raises(DeliveryError) as caught:
            await KIND.connect(channel(url), tools)
    assert (caught.value.code, caught.value.retryable) == ("configuration_error", False)


@pytest.mark.parametrize("url", ["", "nonsense", "://host", "json://127.0.0.1\n", "js on://127.0.0.1"])
async def test_what_is_no_url(url: str) -> None:
    async with local_tools(apprise_allowed=True) as tools:
        assert any(problem.startswith("credentials.url ") for problem in complaints(KIND, {}, {"url": url}, tools))


_LOCAL_WORK = re.compile(
    r"^\s*(?:import|from)\s+(subprocess|multiprocessing|ctypes|syslog|dbus|gi|hid|win\w+)\b|os\.(system|popen|exec)",
    re.MULTILINE,
)


async def test_every_service_that_works_on_this_machine_is_switched_off() -> None:
    """A look into the library's own text, which finds what a later version adds."""
    async with local_tools(apprise_allowed=True) as tools:
        assert complaints(KIND, {}, {"url": "json://127.0.0.1"}, tools) == []
    local = {
        kind: kind.service_name
        for kind in NotificationManager().plugins()  # type: ignore[no-untyped-call]  # Apprise leaves it untyped
        if _LOCAL_WORK.search(inspect.getsource(sys.modules[kind.__module__]))
    }
    assert len(local) >= 6
    assert [name for kind, name in local.items() if kind.enabled] == []


async def test_no_file_of_this_machine_is_read(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text("{}")
    async with local_tools(apprise_allowed=True) as tools:
        url = f"fcm://project/device?keyfile={file}"
        async with connected(KIND, {}, {"url": url}, tools) as connection:
            with pytest.raises(DeliveryError) as caught:
                await connection.send(notice())
    assert caught.value.code == "apprise_failed"
    for name in (str(file), f"file://{file}"):
        (found,) = apprise.AppriseAttachment(name)
        assert not found


async def test_the_operator_has_to_allow_it() -> None:
    for options in ({}, {"apprise_allowed": False}):
        async with local_tools(**options) as tools:
            assert complaints(KIND, {}, {"url": "json://127.0.0.1"}, tools) == [
                "credentials.url cannot be used: the operator of this server does not allow Apprise (apprise_allowed)"
            ]
            with pytest.raises(DeliveryError, match="does not allow Apprise") as caught:
                await KIND.connect(channel("json://127.0.0.1"), tools)
        assert (caught.value.code, caught.value.retryable) == ("configuration_error", False)


async def test_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    async with local_tools(apprise_allowed=True) as tools:
        (problem,) = complaints(KIND, {}, {"url": "json://127.0.0.1"}, tools)
        assert problem.endswith("alert channel apprise needs an optional library: install waypost[apprise]")
        with pytest.raises(MissingExtra, match=r"waypost\[apprise\]"):
            await KIND.connect(channel("json://127.0.0.1"), tools)


def test_the_target_is_the_sort_of_service() -> None:
    assert KIND.target({}, {"url": f"ntfys://{PASSWORD}@ntfy.example.com"}) == "ntfys:// by Apprise"


def test_the_url_is_a_secret() -> None:
    assert [field.key for field in KIND.credential_fields if field.sensitive] == ["url"]


@pytest.mark.parametrize("wrong", [{"allowed": "yes"}, {"allowed": 1}, {"surprise": 1}])
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    KIND.check_options({"apprise_allowed": True, "webhook_x": 1})
    with pytest.raises(SettingsError, match="apprise"):
        KIND.check_options({f"apprise_{name}": value for name, value in wrong.items()})
