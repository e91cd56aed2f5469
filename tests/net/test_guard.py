from __future__ import annotations

from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.net.guard import AddressGuard, Network, literal_address, looks_like_address

FORBIDDEN = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:ffff::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "3fff:fff::1",
    "5f00::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "fe80::1%eth0",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "::ffff:8.8.8.8",
    "64:ff9b::168.63.129.16",
    "2002:a83f:8110::1",
    "2001:1::1",
    "2001:2::1",
    "2001:1ff:ffff::1",
    "2a00::5efe:a00:1",
    "2a00::200:5efe:7f00:1",
    "1fff:ffff::1",
    "4000::1",
    "a000::1",
    "200::1",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.112.255",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2001:4860::8888",
    "2400::1",
    "2001:200::1",
    "2a00::5efe:808:808",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_forbidden(address: str) -> None:
    refusal = AddressGuard().refusal(address)
    assert refusal is not None
    assert refusal.startswith(f"{address} is ")
    assert AddressGuard(enabled=False).refusal(address) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert AddressGuard().refusal(address) is None


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4.5", "999.1.1.1", "gg::", "0x7f.0.0.1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert AddressGuard().kind(text) == "not an IP address"


def test_exceptions_hold_for_their_network_only() -> None:
    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    assert guard.refusal("10.1.2.3") is None
    assert guard.refusal("::ffff:10.1.2.3") is None
    assert guard.refusal("fd12::1") is None
    assert guard.refusal("10.2.0.1") is not None
    assert guard.refusal("fc00::1") is not None


def test_translated_addresses_need_both_forms_allowed() -> None:
    guard = AddressGuard([ip_network("64:ff9b::/96"), ip_network("2002::/16")])
    assert guard.refusal("64:ff9b::8.8.8.8") is None
    assert guard.refusal("64:ff9b::10.0.0.1") is not None
    assert guard.refusal("2002:808:808::1") is None
    assert guard.refusal("2002:a00:1::1") is not None
    assert AddressGuard([ip_network("10.0.0.0/8")]).refusal("64:ff9b::10.0.0.1") is not None


LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f000001",
    "0x7F.1",
    "0x7f.0x0.0x0.0x1",
    "127.0x0.01",
    "::1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "[::1%25lo]",
    "::1%lo",
    "[::ffff:7f00:1]",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_in_any_spelling(host: str) -> None:
    assert looks_like_address(host)
    assert "loopback" in (AddressGuard().host_refusal(host) or "")


@pytest.mark.parametrize("host", ["0", "0.0.0.0", "0x0", "00", "[::]", "[::ffff:0:0]", "0x"])
def test_nowhere_in_any_spelling(host: str) -> None:
    assert AddressGuard().host_refusal(host) is not None


@pytest.mark.parametrize(
    "host",
    ["1.2.3.4.5", "256.1.1.1", "1.2.3.256", "1.2.65536", "4294967296", "08.1.1.1", "a.1", "0xg.1", "1..1", "[1:2]"],
)
def test_what_looks_like_an_address_but_is_none(host: str) -> None:
    assert AddressGuard().host_refusal(host) == f"{host} is not a valid IP address"


@pytest.mark.parametrize(
    "host", ["example.com", "example.com.", "localhost", "1e3.com", "dead.beef", "1.a", "x-1", "0x.com"]
)
def test_names_are_not_judged_offline(host: str) -> None:
    assert AddressGuard().host_refusal(host) is None
    assert literal_address(host) is None


@given(st.ip_addresses(v=4), st.sampled_from(["d", "o", "x"]), st.integers(1, 4))
def test_spellings_mean_the_same_address(address: IPv4Address, radix: str, parts: int) -> None:
    packed = address.packed
    numbers = [*packed[: parts - 1], int.from_bytes(packed[parts - 1 :], "big")]
    spell = {"d": "{:d}", "o": "0{:o}", "x": "{:#x}"}[radix]
    assert literal_address(".".join(spell.format(number) for number in numbers)) == address


@given(st.ip_addresses(v=4))
def test_mapped_addresses_are_judged_as_what_they_map(address: IPv4Address) -> None:
    written_as_v6 = "an IPv4 address written as IPv6"
    assert AddressGuard().kind(f"::ffff:{address}") == (AddressGuard().kind(address) or written_as_v6)


@given(st.text(max_size=40))
def test_any_text_can_be_asked_about(text: str) -> None:
    refusal = AddressGuard().host_refusal(text)
    assert refusal is None or refusal.startswith(text) or literal_address(text) is not None


@pytest.mark.parametrize("allowed", [(), (ip_network("0.0.0.0/0"), ip_network("::/0"))])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::", "2606:4700::1", "2606:4700:0::1"],
)
def test_what_the_operator_denies_is_denied_whatever_else_is_set(
    address: str, enabled: bool, allowed: tuple[Network, ...]
) -> None:
    denied = (ip_network("10.0.0.0/8"), ip_network("8.8.8.0/24"), ip_network("2606:4700::/32"))
    guard = AddressGuard(allowed, enabled, denied_networks=denied)
    assert guard.kind(address) == "an address that the operator denies"
    assert guard.for_operators().kind(address) == "an address that the operator denies"
    assert guard.kind("9.9.9.9") is None


def test_what_operators_name_themselves_may_be_private() -> None:
    assert AddressGuard().for_operators().kind("10.1.2.3") is None
