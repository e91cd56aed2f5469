"""Receipts for what went out by HTTP: what the service said, with the exchange itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waypost.connect.connector import Receipt
from waypost.core.errors import DeliveryError
from waypost.net.exchange import HttpResponse
from waypost.net.record import answered, sent


def receipt(response: HttpResponse, own: Mapping[str, Any]) -> Receipt:
    """For a message that had a request of its own."""
    return Receipt(code=str(response.status), response={**answered(response), **own}, request=sent(response.request))


def receipts(response: HttpResponse, own: Sequence[Mapping[str, Any] | DeliveryError]) -> list[Receipt | DeliveryError]:
    """For the messages of one request, each with what was said of it alone."""
    code, request, answer = str(response.status), sent(response.request) | {"messages": len(own)}, answered(response)
    results: list[Receipt | DeliveryError] = []
    for said in own:
        if isinstance(said, DeliveryError):
            said.request = request
            results.append(said)
        else:
            results.append(Receipt(code=code, response={**answer, **said}, request=request))
    return results
