"""Names with letters beyond ASCII, as registries read them: IDNA 2008, UTS 46 without its transition."""

from __future__ import annotations

import pytest

from waypost.alerts.email import recipients_of
from waypost.net.hosts import parse_host
from waypost.net.names import ascii_name
from waypost.net.target import parse_url

NAMES = {
    "faß.de": "xn--fa-hia.de",  # not fass.de
    "βόλος.com": "xn--nxasmm1c.com",  # a final sigma is a letter of its own
    "ΒΌΛΟΣ.com": "xn--nxasmq6b.com",
    "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com": "xn--mgba3gch31f060k.com",  # a non-joiner where Persian has one
    "\u0dc1\u0dca\u200d\u0dbb\u0dd3.com": "xn--10cl1a0b660p.com",  # a joiner where Sinhala has one
    "BÜCHER.Example": "xn--bcher-kva.example",
    "bu\u0308cher.example": "xn--bcher-kva.example",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "XN--BCHER-KVA.example": "xn--bcher-kva.example",
    "example\u3002com": "example.com",
    "日本語\uff0ejp": "xn--wgv71a119e.jp",
    "\uff45xample\uff61com": "example.com",
    "אבג.example": "xn--4dbcd.example",
    "exam\u00adple.com": "example.com",
    "_dmarc.example.com": "_dmarc.example.com",
    "a--b.example": "a--b.example",
}
NO_NAMES = [
    "xn--fa-hia-.de",
    "xn--.de",
    "xn--a.de",
    "xn--fass-.de",
    "xn--bcher-KVA0.example",
    "xn---bbk.example",
    "xn--strae-oqa\u3002xn--.de",
    "a\u200db.de",  # joiners without a reason
    "a\u200cb.de",
    "\u0301a.de",
    "0\u05d0.example",  # starts with a digit, runs from right to left
    "א.0a.example",
    "a\u05d0.example",
    "\u2603.example",  # a snowman: not a letter
    "\ue000.example",
    "\U000e0100\ud800.example",
    "a\u2260b.example",
    "-ü.example",
    "ü" * 64 + ".example",
]


@pytest.mark.parametrize(("name", "known"), NAMES.items(), ids=map(ascii, NAMES))
def test_names(name: str, known: str) -> None:
    assert ascii_name(name) == known
    assert parse_host(name, default_port=1).host == known
    assert parse_url(f"https://{name}/x").url == f"https://{known}/x"
    assert parse_url(f"https://{name}./x").host == known


@pytest.mark.parametrize("name", NO_NAMES, ids=map(ascii, NO_NAMES))
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="must have a valid host"):
        parse_url(f"https://{name}/x")
    with pytest.raises(ValueError, match="must have a valid host"):
        parse_host(name, default_port=1)


@pytest.mark.parametrize(
    "name", ["\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.1", "0\u21797f.1"]
)
def test_addresses_in_other_letters_are_addresses(name: str) -> None:
    assert parse_host(name, default_port=1).host == "127.0.0.1"
    assert parse_url(f"http://{name}/").is_address


@pytest.mark.parametrize(
    "name", ["a\uff0fb.example", "a\uff03.example", "a\uff20b.example", "a\u2100.example", "a\uff1a1.example"]
)
def test_letters_that_would_end_a_host_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_url(f"https://{name}/")
    with pytest.raises(ValueError, match="must"):
        parse_host(name, default_port=1)


def test_domains_of_mail_addresses() -> None:
    assert recipients_of("ops@faß.de, ops@BÜCHER.example") == ("ops@xn--fa-hia.de", "ops@xn--bcher-kva.example")
    with pytest.raises(ValueError, match="must be addresses such as"):
        recipients_of("ops@a\u200db.de")
