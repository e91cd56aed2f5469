"""Secrets among a type's fields: shown masked, taken back unchanged, and not sent to another server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.connect import fields
from waypost.connect.fields import Field
from waypost.connect.registry import Channels, Registry
from waypost.connect.relay import channel_types

SECRET = Field(key="pin", label="PIN", description="Opens it.", sensitive=True)
HEADERS = Field(key="headers", label="Headers", description="Sent along.", type="key_value_map", sensitive=True)
URL = Field(key="url", label="URL", description="Where.", locates=True)
ALL = (SECRET, HEADERS, URL)


@given(st.text(min_size=1, max_size=400))
def test_a_mask_tells_neither_how_long_a_secret_is_nor_more_than_its_start(secret: str) -> None:
    shown = fields.mask(secret)
    assert len(shown) == len(fields.mask("x"))
    assert shown.rstrip("*") in {"", secret[:4].rstrip("*")}


def test_each_value_of_a_secret_map_is_masked_by_itself() -> None:
    shown = fields.redact(ALL, {"headers": '{"Authorization":"Bearer 123456","x-short":"ab"}', "url": "https://a.test"})
    assert json.loads(shown["headers"]) == {"Authorization": "Bear********", "x-short": "************"}
    assert shown["url"] == "https://a.test"


def test_a_secret_map_that_cannot_be_read_is_masked_whole() -> None:
    assert fields.redact(ALL, {"headers": "Bearer 123456"}) == {"headers": "Bear********"}


@pytest.mark.parametrize("as_text", [False, True])
def test_masked_values_of_a_map_sent_back_are_unchanged(as_text: bool) -> None:
    old = {"headers": '{"a":"0123456789","b":"0123456789","c":"1"}'}
    sent = {"a": fields.mask("0123456789"), "b": "new", "d": "************"}
    change = fields.unmask(ALL, old, {"headers": json.dumps(sent) if as_text else sent})
    assert json.loads(change["headers"]) == {"a": "0123456789", "b": "new", "d": "************"}


def test_what_a_change_leaves_untold() -> None:
    old = {"pin": "0123456789", "headers": '{"a":"0123456789","b":"12345"}'}
    assert fields.unrepeated(ALL, old, {}) == ["pin", "headers"]
    masked = {"pin": fields.mask("0123456789"), "headers": {"a": fields.mask("0123456789"), "b": "12345"}}
    assert fields.unrepeated(ALL, old, masked) == ["pin", "headers.a"]
    assert fields.unrepeated(ALL, old, {"pin": "0123456789", "headers": None}) == []


@pytest.mark.parametrize(
    ("old", "new", "is_moved"),
    [
        ("https://a.test/x", "https://a.test/y?z", False),
        ("https://a.test", "https://A.test/", False),
        ("https://a.test", "http://a.test", True),
        ("https://a.test", "https://a.test:444", True),
        ("https://a.test", "https://b.test", True),
        ("https://a.test", "https://a.test@b.test", True),
        ("https://a.test/x", "https://a.test\\@b.test/x", True),
        ("nats://a:1", "nats://a:1,nats://b:1", True),
        ("a:1", "a:1,b:1", True),
        ("a:1", "b:1", True),
        ("a:1", "", True),
        ("https://[", "https://]", True),
    ],
)
def test_what_leads_to_another_server(old: str, new: str, is_moved: bool) -> None:
    assert fields.moved(ALL, {"url": old}, {"url": new}) == (["url"] if is_moved else [])


NAMES_A_SERVER = {"brokers", "endpoint", "queue_url", "server", "server_url", "servers", "tls", "ca_certificate", "url"}


def test_every_type_says_which_of_its_fields_lead_to_a_server() -> None:
    for kind in channel_types(Channels.discover(), Registry.discover()).values():
        known = {field.key: field for field in kind.config_fields}
        assert {key for key, field in known.items() if field.locates} == NAMES_A_SERVER & known.keys(), kind.type
