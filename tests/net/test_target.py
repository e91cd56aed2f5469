from __future__ import annotations

import pytest

from waypost.net.target import parse_url


@pytest.mark.parametrize(
    ("url", "host", "port", "requested"),
    [
        ("https://Example.COM", "example.com", 443, "https://example.com/"),
        ("HTTP://example.com.:8080/a?b#c", "example.com", 8080, "http://example.com:8080/a?b"),
        ("http://a_b.example.com/%41%zz", "a_b.example.com", 80, "http://a_b.example.com/%41%zz"),
        ("https://bücher.de/ü?ö", "xn--bcher-kva.de", 443, "https://xn--bcher-kva.de/%C3%BC?%C3%B6"),
        ("http://127.1/", "127.0.0.1", 80, "http://127.0.0.1/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", 80, "http://127.0.0.1/"),
        ("http://127。0。0。1/", "127.0.0.1", 80, "http://127.0.0.1/"),
        ("https://[2606:4700:0::1111]:444/x", "2606:4700::1111", 444, "https://[2606:4700::1111]:444/x"),
        ("https://[fe80::1%25eth0]/", "fe80::1", 443, "https://[fe80::1]/"),
        ("https://h.test/?a=[1]&b={2}|3", "h.test", 443, "https://h.test/?a=[1]&b={2}|3"),
    ],
)
def test_urls(url: str, host: str, port: int, requested: str) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.url) == (host, port, requested)
    assert target.authority == f"{host}:{port}"
    assert target.is_address == (host[0].isdecimal() or ":" in host)
    assert parse_url(target.url) == target


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "must start with http:// or https://"),
        ("example.com", "must start with http:// or https://"),
        ("javascript:alert(1)", "must start with http:// or https://"),
        ("gopher://a.test/", "must start with http:// or https://"),
        ("http://", "must have a host"),
        ("http:///path", "must have a host"),
        ("http://u@a.test/", "must not contain a user name or password"),
        ("http://u:p@a.test/", "must not contain a user name or password"),
        ("http://a.test:80@127.0.0.1/", "must not contain a user name or password"),
        ("http://a.test/ b", "must not contain spaces, backslashes or control characters"),
        ("http://a.test\\@b.test/", "must not contain spaces, backslashes or control characters"),
        ("http://a.test/\r\nx: y", "must not contain spaces, backslashes or control characters"),
        ("http://a.test:0/", "must have a port between 1 and 65535"),
        ("http://a.test:65536/", "must be a valid URL"),
        ("http://a.test:x/", "must be a valid URL"),
        ("http://[::1/", "must be a valid URL"),
        ("http://%31%32%37.0.0.%31/", "must have a valid host"),
        ("http://a..test/", "must have a valid host"),
        ("http://a,b/", "must have a valid host"),
        ("http://" + "a." * 130 + "test/", "must have a valid host"),
        ("http://ü" + "a" * 70 + ".test/", "must have a valid host"),
        ("http://1.2.3.4.5/", "must have a valid host: it looks like an IP address but is not one"),
    ],
)
def test_urls_that_cannot_be_requested(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        parse_url(url)
    assert str(caught.value) == problem
