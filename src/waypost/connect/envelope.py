"""Data and metadata in one JSON document, for services that have no place beside the body."""

from __future__ import annotations

import msgspec

from waypost.connect.connector import Message

_encode = msgspec.json.Encoder(order="deterministic").encode


def enveloped(message: Message) -> bytes:
    """`{"metadata": {...}, "data": ...}`: the data stays as it was published, byte for byte."""
    return b'{"metadata":%b,"data":%b}' % (_encode(message.metadata), message.body)


def metadata_json(message: Message) -> str:
    """The metadata alone, as a JSON object."""
    return _encode(message.metadata).decode()
