"""E-mail against real SMTP servers: in clear, with STARTTLS, with TLS from the start, and servers that refuse."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from ipaddress import ip_network
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from msgspec import structs

from tests.alerts.kit import NOON, complaints, connected, local_tools, notice
from tests.alerts.vendor import NOTICES
from tests.net.receivers import silent_port
from tests.servers.authority import Authority
from waypost.alerts.email import EmailType, compose, recipients_of, server_of
from waypost.connect.channel import Channel, Notice
from waypost.connect.connector import Receipt
from waypost.core.errors import DeliveryError, SettingsError
from waypost.net.guard import AddressGuard

KIND = EmailType()
USER, PASSWORD = "way@post", "p:a/s?s w#rd%"
LOGIN = "way%40post:p%3Aa%2Fs%3Fs%20w%23rd%25@"
FROM = "Waypost Alerts <alerts@waypost.example>"
TO = {"to": "ops@example.com"}


class Mailbox:
    """What a server does with what it gets: `replies` are its answers to recipients, to DATA and to QUIT."""

    def __init__(self, **replies: str) -> None:
        self.replies = replies
        self.received: list[Envelope] = []
        self.logins: list[tuple[str, str]] = []

    def authenticate(self, _: SMTP, __: Session, ___: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
        self.logins.append((data.login.decode(), data.password.decode()))
        if "login" in self.replies:
            return AuthResult(success=False, handled=False, message=self.replies["login"])
        return AuthResult(success=self.logins[-1] == (USER, PASSWORD), handled=False)

    async def handle_RCPT(  # noqa: N802 - the server's name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address.partition("@")[0], "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        self.received.append(envelope)
        return self.replies.get("data", "250 queued as 7F3A")

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        if self.replies.get("quit") == "never":
            await asyncio.Event().wait()
        return "221 Bye"


@asynccontextmanager
async def mail_server(mailbox: Mailbox, *, tls: ssl.SSLContext | None = None, **how: Any) -> AsyncIterator[int]:
    """The port of a server; `tls` is for TLS from the start, `tls_context` for STARTTLS."""
    loop = asyncio.get_running_loop()

    def speak() -> SMTP:
        return SMTP(mailbox, hostname="mail.test", authenticator=mailbox.authenticate, loop=loop, **how)

    server = await loop.create_server(speak, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def context_of(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    return context


async def send(url: str, told: Notice | None = None, config: dict[str, str] | None = None, **options: Any) -> Receipt:
    async with (
        local_tools(local=False, email_server=url, email_from=FROM, **options) as tools,
        connected(KIND, config or TO, {}, tools) as connection,
    ):
        return await connection.send(told or notice())


async def failure(url: str, config: dict[str, str] | None = None, **options: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await send(url, config=config, **options)
    error = caught.value
    assert PASSWORD not in f"{error} {error.response} {error.request}"
    return error


async def plain(mailbox: Mailbox, told: Notice | None = None, **config: str) -> Receipt:
    async with mail_server(mailbox) as port:
        return await send(f"smtp+plain://127.0.0.1:{port}", told, config or TO)


async def refused(mailbox: Mailbox, **config: str) -> DeliveryError:
    async with mail_server(mailbox) as port:
        return await failure(f"smtp+plain://127.0.0.1:{port}", config or TO)


def message_in(mailbox: Mailbox) -> EmailMessage:
    """The one message, parsed."""
    (envelope,) = mailbox.received
    content = envelope.original_content
    assert content is not None
    return message_from_bytes(content, policy=default)


def parts_of(message: EmailMessage) -> tuple[str, str]:
    """The plain and the HTML version, and nothing else."""
    assert message.get_content_type() == "multipart/alternative"
    plain_part, html_part = (cast("EmailMessage", part) for part in message.iter_parts())
    assert (plain_part.get_content_type(), html_part.get_content_type()) == ("text/plain", "text/html")
    return plain_part.get_content().replace("\r\n", "\n"), html_part.get_content().replace("\r\n", "\n")


async def test_a_mail_server_may_be_private_but_not_where_the_operator_denies_everything() -> None:
    mailbox = Mailbox()
    denied = AddressGuard(denied_networks=[ip_network("127.0.0.0/8")])
    async with (
        mail_server(mailbox) as port,
        local_tools(email_server=f"smtp+plain://localhost:{port}", email_from=FROM) as tools,
    ):
        async with connected(KIND, TO, {}, structs.replace(tools, guard=AddressGuard())) as connection:
            await connection.send(notice())
        async with connected(KIND, TO, {}, structs.replace(tools, guard=denied)) as connection:
            with pytest.raises(DeliveryError) as caught:
                await connection.send(notice())
    assert caught.value.code == "blocked_address"
    assert len(mailbox.received) == 1


class Page(HTMLParser):
    """What a reader sees of a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.links: list[str | None] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.shown.append(data.strip())


async def test_a_message_and_its_two_versions() -> None:
    mailbox = Mailbox()
    receipt = await plain(mailbox, to=" ops@example.com, on-call@example.com,ops@example.com")
    (envelope,) = mailbox.received
    assert envelope.mail_from == "alerts@waypost.example"
    assert envelope.rcpt_tos == ["ops@example.com", "on-call@example.com"]
    message = message_in(mailbox)
    assert message["From"] == FROM
    assert message["To"] == "ops@example.com, on-call@example.com"
    assert message["Subject"] == "des_1 of acme has failed 50 times in a row"
    assert message["Date"].datetime.isoformat() == "2024-01-01T12:00:00+00:00"
    assert message["Message-ID"] == "<alr_01h2xcejqtf2n@waypost.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Waypost-Topic"] == "alert.destination.consecutive_failure"
    assert message["MIME-Version"] == "1.0"
    text, html = parts_of(message)
    assert text.startswith(notice().text)
    assert "\nError: 503: the receiver answered 503 <Service Unavailable> & closed\n" in text
    assert text.rstrip().endswith(notice().link or "-")
    page = Page(html)
    assert [notice().title, notice().text] == page.shown[1:3]
    assert page.shown[-1] == "Open in Waypost"
    assert [fact for pair in notice().facts for fact in pair] == page.shown[3:-1]
    assert page.links == [notice().link]
    assert receipt == Receipt(code="250", response={"message": "queued as 7F3A"})


async def test_every_try_is_the_same_message() -> None:
    first, second = Mailbox(), Mailbox()
    await plain(first)
    await plain(second)
    assert message_in(first)["Message-ID"] == message_in(second)["Message-ID"]
    assert message_in(first)["Date"] == message_in(second)["Date"]


async def test_letters_from_everywhere() -> None:
    mailbox = Mailbox()
    told = notice(title="Zustellung gestört: 配信エラー 💥", text="Größe überschritten\n" + "é" * 2_000)
    await plain(mailbox, told)
    (envelope,) = mailbox.received
    assert envelope.original_content is not None
    assert envelope.original_content.isascii()
    assert max(len(line) for line in envelope.original_content.splitlines()) <= 998
    assert message_in(mailbox)["Subject"] == told.title
    text, html = parts_of(message_in(mailbox))
    assert text.startswith(told.text)
    assert told.text in html


async def test_a_title_cannot_add_headers() -> None:
    mailbox = Mailbox()
    await plain(mailbox, notice(title="one\r\nBcc: all@example.com\r\n\r\nbody\x00", topic="a\r\nX-Forged: 1"))
    message = message_in(mailbox)
    assert message["Subject"] == "one Bcc: all@example.com  body"
    assert message["X-Waypost-Topic"] == "a X-Forged: 1"
    assert message["Bcc"] is None
    assert message["X-Forged"] is None
    assert len(parts_of(message)) == 2


async def test_markup_in_texts_is_text() -> None:
    mailbox = Mailbox()
    odd = "<script>alert(\"1\")</script> & <b>'x'"
    await plain(mailbox, notice(title=odd, text=odd, facts=((odd, odd),), link='https://w.example/?a="><b>'))
    page = Page(parts_of(message_in(mailbox))[1])
    assert page.shown == [odd, odd, odd, odd, odd, "Open in Waypost"]
    assert not page.tags & {"script", "b"}
    assert page.links == ['https://w.example/?a="><b>']


async def test_no_facts_and_no_link() -> None:
    mailbox = Mailbox()
    await plain(mailbox, notice(facts=(), link=None))
    text, html = parts_of(message_in(mailbox))
    assert text == f"{notice().text}\n"
    assert "href" not in html


@given(NOTICES)
def test_every_notice_is_a_message(told: Notice) -> None:
    server = server_of({"email_server": "smtp://mail.example", "email_from": FROM})
    assert server is not None
    sent = compose(told, server.sender, ("ops@example.com",)).as_bytes()
    read = message_from_bytes(sent, policy=default)
    assert sent.isascii()
    assert [name for name in read if name.lower() not in {"mime-version", "content-type"}] == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "X-Waypost-Topic",
    ]
    assert len(read["Subject"]) <= 200
    assert len(parts_of(read)) == 2


async def test_starttls_and_signing_in(authority: Authority) -> None:
    mailbox = Mailbox()
    how: dict[str, Any] = {"tls_context": context_of(authority), "require_starttls": True, "auth_required": True}
    async with mail_server(mailbox, **how) as port:
        await send(f"smtp://{LOGIN}localhost:{port}", email_ca_file=str(authority.ca_file))
    assert mailbox.logins == [(USER, PASSWORD)]
    assert len(mailbox.received) == 1


async def test_tls_from_the_start_and_the_login_mechanism(authority: Authority) -> None:
    mailbox = Mailbox()
    how: dict[str, Any] = {"tls": context_of(authority), "auth_require_tls": False, "auth_exclude_mechanism": ["PLAIN"]}
    async with mail_server(mailbox, **how) as port:
        await send(f"smtps://{LOGIN}localhost:{port}/", email_ca_file=str(authority.ca_file))
    assert mailbox.logins == [(USER, PASSWORD)]
    assert len(mailbox.received) == 1


async def test_a_password_that_is_wrong(authority: Authority) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, tls_context=context_of(authority)) as port:
        url = f"smtp://{LOGIN.replace('p%3A', 'q%3A')}localhost:{port}"
        error = await failure(url, email_ca_file=str(authority.ca_file))
    assert (error.code, error.retryable) == ("bad_credentials", False)
    assert len(mailbox.logins) == 1
    assert mailbox.received == []


async def test_signing_in_is_not_possible_for_the_moment(authority: Authority) -> None:
    mailbox = Mailbox(login="454 4.7.0 Temporary authentication failure")
    async with mail_server(mailbox, tls_context=context_of(authority)) as port:
        error = await failure(f"smtp://{LOGIN}localhost:{port}", email_ca_file=str(authority.ca_file))
    assert (error.code, error.retryable) == ("454", True)


@pytest.mark.parametrize("login", ["", LOGIN])
async def test_nothing_is_sent_in_clear_where_starttls_is_asked_for(login: str, authority: Authority) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, auth_require_tls=False) as port:
        error = await failure(f"smtp://{login}localhost:{port}", email_ca_file=str(authority.ca_file))
    assert (error.code, error.retryable) == ("tls_error", False)
    assert error.sentence == "The mail server does not offer STARTTLS"
    assert mailbox.logins == []
    assert mailbox.received == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
async def test_a_certificate_of_nobody_or_of_somebody_else(
    scheme: str, host: str, trusted: bool, authority: Authority
) -> None:
    mailbox, context = Mailbox(), context_of(authority)
    how = {"tls": context} if scheme == "smtps" else {"tls_context": context}
    async with mail_server(mailbox, **how) as port:
        trust: dict[str, Any] = {"email_ca_file": str(authority.ca_file)} if trusted else {}
        error = await failure(f"{scheme}://{LOGIN}{host}:{port}", **trust)
    assert error.code == "tls_error"
    assert mailbox.logins == []
    assert mailbox.received == []


async def test_tls_is_asked_of_a_server_that_has_none(authority: Authority) -> None:
    async with mail_server(Mailbox()) as port:
        error = await failure(f"smtps://localhost:{port}", email_ca_file=str(authority.ca_file))
    assert error.code == "tls_error"


async def test_trouble_that_passes() -> None:
    error = await refused(Mailbox(data="451 4.3.0 try again later"))
    assert (error.code, error.retryable) == ("451", True)
    assert error.sentence == "The mail server answered 451 4.3.0 try again later"


async def test_trouble_that_stays() -> None:
    error = await refused(Mailbox(data="550 5.7.1 looks like spam"))
    assert (error.code, error.retryable) == ("550", False)


async def test_one_of_two_recipients_is_refused() -> None:
    mailbox = Mailbox(gone="550 5.1.1 no such user")
    receipt = await plain(mailbox, to="ops@example.com,gone@example.com")
    assert mailbox.received[0].rcpt_tos == ["ops@example.com"]
    assert receipt.response == {"message": "queued as 7F3A", "refused": {"gone@example.com": "550 5.1.1 no such user"}}


@pytest.mark.parametrize(("second", "code", "retryable"), [("550 no", "550", False), ("452 full", "452", True)])
async def test_all_recipients_are_refused(second: str, code: str, retryable: bool) -> None:
    mailbox = Mailbox(gone="550 5.1.1 no such user", full=second)
    error = await refused(mailbox, to="gone@example.com,full@example.com")
    assert (error.code, error.retryable) == (code, retryable)
    assert error.response == {
        "refused": {"gone@example.com": "550 5.1.1 no such user", "full@example.com": second},
    }
    assert mailbox.received == []


async def test_a_server_that_says_nothing() -> None:
    async with silent_port(accepts=True) as port:
        error = await failure(f"smtp+plain://127.0.0.1:{port}", email_timeout=0.2)
    assert (error.code, error.retryable) == ("timeout", True)
    assert error.sentence == "The mail server did not answer in time"


async def test_a_server_that_does_not_say_goodbye_has_the_message() -> None:
    mailbox = Mailbox(quit="never")
    receipt = await plain(mailbox)
    assert receipt.code == "250"
    assert len(mailbox.received) == 1


async def test_nobody_listens() -> None:
    async with silent_port(accepts=True) as port:
        pass
    error = await failure(f"smtp+plain://localhost:{port}")
    assert (error.code, error.retryable) == ("connection_refused", True)


async def test_a_name_that_does_not_exist() -> None:
    error = await failure("smtp+plain://mail.invalid")
    assert (error.code, error.retryable) == ("dns_error", True)


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (b"", "connection_reset"),
        (b"421 4.3.2 shutting down\r\n", "421"),
        (b"554 5.7.1 not for you\r\n", "554"),
        (b"HTTP/1.1 400 Bad Request\r\n", "protocol_error"),
    ],
)
async def test_a_server_that_does_not_want_to_talk(greeting: bytes, code: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        error = await failure(f"smtp+plain://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (error.code, error.retryable) == (code, code != "554")


async def test_a_cancelled_send_leaves_nothing_behind() -> None:
    async with silent_port(accepts=True) as port:
        sending = asyncio.create_task(send(f"smtp+plain://127.0.0.1:{port}"))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_no_mail_server() -> None:
    channel = Channel(
        no=1,
        id="chn_1",
        owner=None,
        type="email",
        name="on call",
        config=TO,
        credentials={},
        created_at=NOON,
        updated_at=NOON,
    )
    async with local_tools(email_from=FROM) as tools:
        (problem,) = complaints(KIND, TO, {}, tools)
        assert problem.startswith("config.to cannot be written to: the operator has not set up e-mail")
        with pytest.raises(DeliveryError, match="No mail server is set up") as caught:
            await KIND.connect(channel, tools)
    assert (caught.value.code, caught.value.retryable) == ("configuration_error", False)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ops",
        "@example.com",
        "ops@",
        "ops@example.com\r\nBcc: all@example.com",
        "ops@example.com\n",
        "ops@example.com,",
        "ops@example.com, ,x@example.com",
        "Ops <ops@example.com>",
        "ops@example..com",
        ".ops@example.com",
        "o ps@example.com",
        '"a b"@example.com',
        "ops@-example.com",
        "ops@[127.0.0.1]",
        "öps@example.com",
        f"{'o' * 65}@example.com",
        f"ops@{'e' * 60}.{'e' * 60}.{'e' * 60}.{'e' * 60}.{'e' * 60}",
        ",".join(f"ops{n}@example.com" for n in range(21)),
    ],
)
async def test_what_is_no_list_of_addresses(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        recipients_of(wrong)
    async with local_tools(email_server="smtp://mail.example", email_from=FROM) as tools:
        assert any(problem.startswith("config.to ") for problem in complaints(KIND, {"to": wrong}, {}, tools))


def test_twenty_addresses_are_enough() -> None:
    addresses = tuple(f"o'ps+{n}@mx-{n}.example.com" for n in range(20))
    assert recipients_of(" , ".join(addresses)) == addresses


def test_the_target_is_the_list() -> None:
    assert KIND.target(TO, {}) == "ops@example.com"


@pytest.mark.parametrize(
    ("url", "host", "port", "security", "login"),
    [
        ("smtp://mail.example", "mail.example", 587, "starttls", (None, "")),
        ("smtps://a%40b:c%3Ad@mail.example", "mail.example", 465, "tls", ("a@b", "c:d")),
        ("smtp+plain://[::1]:2525/", "::1", 2525, "none", (None, "")),
        ("SMTP://u:p@Mail.Example:1", "mail.example", 1, "starttls", ("u", "p")),
    ],
)
def test_the_server_of_a_url(url: str, host: str, port: int, security: str, login: tuple[str | None, str]) -> None:
    server = server_of({"email_server": url, "email_from": "alerts@example.com", "email_timeout": 5, "webhook_x": 1})
    assert server is not None
    assert (server.at.host, server.at.port, server.security) == (host, port, security)
    assert (server.username, server.password) == login
    assert server.timeout == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"email_server": "http://u:s3cret@mail.example"},
        {"email_server": "mail.example:25"},
        {"email_server": "smtp://u:s3cret@"},
        {"email_server": "smtp://u:s3cret@mail.example:0"},
        {"email_server": "smtp://u:s3cret@mail.example:x"},
        {"email_server": "smtp://u:s3cret@mail.example/inbox"},
        {"email_server": "smtp://u:s3cret@mail.example?tls=no"},
        {"email_server": "smtp://u:s3cret#@mail.example"},
        {"email_server": "smtp://u:s3cret@[mail.example"},
        {"email_server": "smtp://u@mail.example"},
        {"email_server": "smtp://:s3cret@mail.example"},
        {"email_server": "smtp+plain://u:s3cret@mail.example"},
        {"email_server": 7},
        {"email_from": None},
        {"email_from": "alerts"},
        {"email_from": "a@example.com, b@example.com"},
        {"email_from": "Alerts\r\nBcc: x@example.com <a@example.com>"},
        {"email_from": "älerts@example.com"},
        {"email_timeout": 0},
        {"email_timeout": "soon"},
        {"email_ca_file": "/nowhere/ca.pem"},
        {"email_ca_file": __file__},
        {"email_surprise": 1},
    ],
)
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    right = {"email_server": "smtp://u:p@mail.example", "email_from": FROM}
    KIND.check_options(right)
    with pytest.raises(SettingsError, match="email") as caught:
        KIND.check_options(right | wrong)
    assert "s3cret" not in str(caught.value)


def test_no_options_are_fine() -> None:
    KIND.check_options({})
