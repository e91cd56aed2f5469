"""Which addresses Waypost may connect to. On by default: nothing private, local or reserved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORBIDDEN_V4 = {
    IPv4Network("0.0.0.0/8"): "an address of this network",
    IPv4Network("10.0.0.0/8"): "a private address",
    IPv4Network("100.64.0.0/10"): "a carrier's private address",
    IPv4Network("127.0.0.0/8"): "a loopback address",
    IPv4Network("168.63.129.16/32"): "the address of Azure's platform services",
    IPv4Network("169.254.0.0/16"): "a link-local address",
    IPv4Network("172.16.0.0/12"): "a private address",
    IPv4Network("192.0.0.0/24"): "a reserved address",
    IPv4Network("192.0.2.0/24"): "a documentation address",
    IPv4Network("192.88.99.0/24"): "a 6to4 relay address",
    IPv4Network("192.168.0.0/16"): "a private address",
    IPv4Network("198.18.0.0/15"): "a benchmarking address",
    IPv4Network("198.51.100.0/24"): "a documentation address",
    IPv4Network("203.0.113.0/24"): "a documentation address",
    IPv4Network("224.0.0.0/4"): "a multicast address",
    IPv4Network("240.0.0.0/4"): "a reserved address",
}
_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")
_FORBIDDEN_V6 = {
    IPv6Network("::1/128"): "a loopback address",
    IPv6Network("::/128"): "the unspecified address",
    IPv6Network("::/96"): "a reserved address",
    _MAPPED: "an IPv4 address written as IPv6",
    _NAT64: "a translated address",
    IPv6Network("64:ff9b:1::/48"): "a translated address",
    IPv6Network("100::/64"): "a discard address",
    IPv6Network("2001::/32"): "a Teredo address",
    IPv6Network("2001::/23"): "an address of a protocol",
    IPv6Network("2001:db8::/32"): "a documentation address",
    IPv6Network("2002::/16"): "a 6to4 address",
    IPv6Network("3fff::/20"): "a documentation address",
    IPv6Network("5f00::/16"): "a segment routing address",
    IPv6Network("fc00::/7"): "a private address",
    IPv6Network("fe80::/10"): "a link-local address",
    IPv6Network("fec0::/10"): "a site-local address",
    IPv6Network("ff00::/8"): "a multicast address",
}
_PUBLIC_V6 = IPv6Network("2000::/3")
"""All that IANA hands out for the public internet (IPv6 Global Unicast Address Assignments)."""
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214, section 6.1)."""
_V4_PARTS = 4


class AddressGuard:
    """Says which addresses are out of bounds.

    Forbidden is what the IANA special-purpose registries hold and no public host can have, also where it hides in an
    IPv6 address (mapped, translated, 6to4), and in IPv6 all that is not public. `allowed_networks` are the operator's
    exceptions; with `enabled=False` everything may be reached. Whatever else holds, nothing in `denied_networks` is.
    """

    def __init__(
        self,
        allowed_networks: Sequence[Network] = (),
        enabled: bool = True,
        *,
        denied_networks: Sequence[Network] = (),
    ) -> None:
        self.allowed_networks = tuple(allowed_networks)
        self.denied_networks = tuple(denied_networks)
        self.enabled = enabled

    def kind(self, address: str | Address) -> str | None:
        """What sort of forbidden address this is ("a private address"); None for one that may be reached."""
        if not self.enabled and not self.denied_networks:
            return None
        known = _parse(address) if isinstance(address, str) else address
        if known is None:
            return "not an IP address"
        forms = tuple(_forms(known))
        if any(form in network for form in forms for network in self.denied_networks):
            return "an address that the operator denies"
        return self._forbidden(forms) if self.enabled else None

    def for_operators(self) -> AddressGuard:
        """The guard for servers that the operator names: only what is denied outright is out of bounds."""
        return AddressGuard(enabled=False, denied_networks=self.denied_networks)

    def refusal(self, address: str | Address) -> str | None:
        """Why an address may not be reached, as a sentence; None when it may."""
        kind = self.kind(address)
        return None if kind is None else f"{address} is {kind}, which destinations may not reach"

    def host_refusal(self, host: str) -> str | None:
        """The same for the host of a URL if it is an address in any spelling that some client understands.

        Offline: None for a name, whatever it resolves to. A host that looks like an address but is none is refused.
        """
        if not looks_like_address(host):
            return None
        address = literal_address(host)
        if address is None:
            return f"{host} is not a valid IP address"
        return self.refusal(address)

    def _forbidden(self, forms: Sequence[Address]) -> str | None:
        if forms[-1] in _MAPPED and any(self._is_allowed(form) for form in forms):
            return None  # only another spelling of what the operator allows (RFC 4291, section 2.5.5.2)
        return next(
            (kind for form in forms if not self._is_allowed(form) and (kind := _kind_of(form)) is not None), None
        )

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allowed_networks)


def _kind_of(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _FORBIDDEN_V4.items() if address in network), None)
    known = next((kind for network, kind in _FORBIDDEN_V6.items() if address in network), None)
    return known or (None if address in _PUBLIC_V6 else "outside of the public IPv6 addresses")


def looks_like_address(host: str) -> bool:
    """Whether a host can only be meant as an address: a colon, or a last label that is a number (WHATWG URL, 3.5)."""
    bare = _bare(host)
    last = bare.rpartition(".")[2]
    return ":" in bare or last.isdecimal() or _number(last) is not None


def literal_address(host: str) -> Address | None:
    """The address that a host spells, or None for anything else.

    IPv4 may be dotted, short, decimal, octal or hexadecimal; IPv6 may have brackets and a scope.
    """
    bare = _bare(host)
    return _parse(bare) if ":" in bare else _inet_aton(bare)


def _bare(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host.partition("%")[0] if ":" in host else host.removesuffix(".")


def _parse(text: str) -> Address | None:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _inet_aton(text: str) -> IPv4Address | None:
    """IPv4 as inet_aton(3) reads it: one to four numbers, the last of which fills the bytes that are left."""
    labels = text.split(".")
    numbers = [_number(label) for label in labels]
    known = [number for number in numbers if number is not None]
    if len(labels) > _V4_PARTS or len(known) != len(labels):
        return None
    *leading, last = known
    left = _V4_PARTS - len(leading)
    if any(number > 255 for number in leading) or last >= 256**left:  # noqa: PLR2004 - the values of a byte
        return None
    value = last
    for index, number in enumerate(leading):
        value |= number << (8 * (3 - index))
    return IPv4Address(value)


def _number(label: str) -> int | None:
    if not label.isascii():
        return None
    digits, base = label.lower(), 10
    if digits.startswith("0x"):
        digits, base = digits[2:] or "0", 16
    elif len(digits) > 1 and digits.startswith("0"):
        digits, base = digits[1:], 8
    try:
        return int(digits, base) if digits.isalnum() else None
    except ValueError:
        return None


def _forms(address: Address) -> Iterator[Address]:
    """The IPv4 addresses that an address carries, then the address itself. All of them have to be allowed."""
    if isinstance(address, IPv4Address):
        yield address
    else:
        yield from _carried(address)
        yield IPv6Address(int(address))  # without a scope


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        yield low
