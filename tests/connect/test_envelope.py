from __future__ import annotations

import json

from tests.destinations.messages import ODD_BODY, message
from waypost.connect.envelope import enveloped, metadata_json


def test_the_data_stays_byte_for_byte() -> None:
    sent = message(trace='say "Grüße"')
    whole = enveloped(sent)
    assert whole.endswith(b',"data":' + ODD_BODY + b"}")
    assert json.loads(whole) == {"metadata": sent.metadata, "data": json.loads(ODD_BODY)}


def test_the_metadata_alone() -> None:
    sent = message(b="2", a="1")
    assert json.loads(metadata_json(sent)) == sent.metadata
    assert list(json.loads(metadata_json(sent))) == sorted(sent.metadata)
