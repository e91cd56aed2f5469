from __future__ import annotations

import pytest

from waypost.net.guard import AddressGuard
from waypost.net.hosts import MOST_HOSTS, HostPort, host_problems, parse_host, parse_hosts


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("broker.example.com:9093", "broker.example.com", 9093),
        ("Broker.Example.COM.", "broker.example.com", 9092),
        ("broker_1", "broker_1", 9092),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("0x7f.1:5", "127.0.0.1", 5),
        ("[2001:DB8::1]:9093", "2001:db8::1", 9093),
        ("[::1]", "::1", 9092),
        ("bücher.example:80", "xn--bcher-kva.example", 80),
    ],
)
def test_a_server(text: str, host: str, port: int) -> None:
    assert parse_host(text, default_port=9092) == HostPort(host, port)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must have a host before the port"),
        (":9092", "must have a host before the port"),
        ("http://a", "must be host:port"),
        ("a/b", "must have a valid host"),
        ("user@a:1", "must have a valid host"),
        ("a b", "must have a valid host"),
        ("a:0", "must have a port between 1 and 65535"),
        ("a:65536", "must have a port between 1 and 65535"),
        ("a:-1", "must be host:port"),
        ("::1", "must be host:port"),
        ("[::1", "must be host:port"),
        ("[a.example]:1", "must have a valid host"),
        ("1.2.3.4.5", "must have a valid host"),
        ("a..b", "must have a valid host"),
        ("-a.example", "must have a valid host"),
        ("a" * 64 + ".example", "must have a valid host"),
        ("a." * 127 + "example", "must have a valid host"),
        ("ü" * 300, "must have a valid host"),
        ("a\nb", "must have a valid host"),
    ],
)
def test_what_is_no_server(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_host(text, default_port=9092)


def test_a_list() -> None:
    assert parse_hosts("a:1, b ,a:1", default_port=2) == (HostPort("a", 1), HostPort("b", 2))
    with pytest.raises(ValueError, match="must have a host before the port"):
        parse_hosts("a,", default_port=1)
    with pytest.raises(ValueError, match=f"must have at most {MOST_HOSTS} servers"):
        parse_hosts(",".join(f"h{n}" for n in range(MOST_HOSTS + 1)), default_port=1)
    with pytest.raises(ValueError, match="must be one server"):
        parse_hosts("a,b", default_port=1, most=1)


def test_as_text() -> None:
    assert str(HostPort("::1", 5)) == "[::1]:5"
    assert str(HostPort("a.example", 5)) == "a.example:5"


def test_problems() -> None:
    guard = AddressGuard()
    assert host_problems("config.x", "a.example:1, b.example", guard, default_port=1) == []
    assert host_problems("config.x", "a:b", guard, default_port=1) == [
        "config.x must be host:port, an IPv6 address in brackets, without a scheme or a path"
    ]
    found = host_problems("config.x", "a.example, 10.0.0.1, 0x7f000001, [::ffff:10.0.0.1]", guard, default_port=1)
    assert len(found) == 3
    assert all(problem.startswith("config.x is not allowed: ") for problem in found)
    assert host_problems("config.x", "10.0.0.1", AddressGuard(enabled=False), default_port=1) == []
