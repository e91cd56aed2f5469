"""Connection strings and signatures of Azure."""

from __future__ import annotations

import pytest

from waypost.net.azure import ConnectionString, SasTokens, parse_connection_string, sas_token

KEY = "c2VjcmV0LWtleQ+/="
WHOLE = f"Endpoint=sb://Contoso.servicebus.windows.net/;SharedAccessKeyName=sender;SharedAccessKey={KEY}"
VECTOR = (
    "SharedAccessSignature sr=https%3A%2F%2Fcontoso.servicebus.windows.net%2Forders%2Feu"
    "&sig=dilZcr2KLmoiGkuYv3mJ67eOXJ9P1Vs77y3iEV1IqVY%3D&se=1800000000&skn=sender"
)


def test_the_signature_is_that_of_azures_own_library() -> None:
    """The vector was made with azure-servicebus 7.15."""
    token = sas_token("https://contoso.servicebus.windows.net/orders/eu", "sender", KEY, expires=1_800_000_000)
    assert token == VECTOR


def test_a_connection_string_is_taken_apart() -> None:
    plain = ConnectionString(authority="contoso.servicebus.windows.net", key_name="sender", key=KEY)
    assert parse_connection_string(WHOLE) == plain
    assert plain.host == "contoso.servicebus.windows.net"


def test_order_case_and_space_do_not_matter() -> None:
    parts = WHOLE.split(";")
    assert parse_connection_string(" ; ".join(reversed(parts)) + ";\n") == parse_connection_string(WHOLE)
    assert parse_connection_string(WHOLE.replace("Endpoint", "ENDPOINT")) == parse_connection_string(WHOLE)


def test_the_entity_path_and_the_port_are_kept() -> None:
    read = parse_connection_string(WHOLE.replace(".net/", ".net:8443/") + ";EntityPath=orders")
    assert (read.entity_path, read.authority, read.host) == (
        "orders",
        "contoso.servicebus.windows.net:8443",
        "contoso.servicebus.windows.net",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must have Endpoint, SharedAccessKeyName, SharedAccessKey"),
        ("nonsense", "must have Endpoint, SharedAccessKeyName, SharedAccessKey"),
        ("Endpoint=sb://x.net/;SharedAccessKeyName=n", "must have SharedAccessKey:"),
        ("Endpoint=sb://x.net/;SharedAccessKeyName=;SharedAccessKey=k", "must have SharedAccessKeyName:"),
        ("Endpoint=http://x.net/;SharedAccessKeyName=n;SharedAccessKey=k", "must have an Endpoint like sb://"),
        ("Endpoint=x.net;SharedAccessKeyName=n;SharedAccessKey=k", "must have an Endpoint like sb://"),
        ("Endpoint=sb://a b/;SharedAccessKeyName=n;SharedAccessKey=k", "must have a valid Endpoint"),
        ("Endpoint=sb://u@x.net/;SharedAccessKeyName=n;SharedAccessKey=k", "must have a valid Endpoint"),
        (f"{WHOLE};UseDevelopmentEmulator=true", "must not be that of the local emulator"),
    ],
)
def test_what_is_no_connection_string_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}") as info:
        parse_connection_string(text)
    assert KEY not in str(info.value)


def test_a_signature_is_used_for_most_of_its_hour() -> None:
    now = 1_000_000.0
    tokens = SasTokens(parse_connection_string(WHOLE), "Orders", clock=lambda: now)
    first = tokens.current()
    assert f"se={1_000_000 + 3_600}&" in first
    assert "sr=https%3A%2F%2Fcontoso.servicebus.windows.net%2Forders&" in first
    now += 3_299
    assert tokens.current() == first
    now += 1
    assert f"se={1_003_300 + 3_600}&" in tokens.current()
