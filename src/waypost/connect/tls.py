"""TLS to a customer's own server: its fields in the form, and the context that they come to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from waypost.connect.fields import Field
from waypost.core.errors import DeliveryError
from waypost.net.authorities import system_bundle
from waypost.net.pinned import PinnedContext

LONGEST_CERTIFICATE = 65_536


def tls_fields(*, default: bool) -> tuple[Field, ...]:
    """The switch and the authority, to be put among a type's config fields."""
    return (
        Field(
            key="tls",
            label="TLS",
            description="Encrypt the connection and check the server's certificate.",
            locates=True,
            type="checkbox",
            default="true" if default else "false",
        ),
        Field(
            key="ca_certificate",
            label="CA certificate",
            description="PEM of the authority that signed the server's certificate; the public ones when left out.",
            locates=True,
            maxlength=LONGEST_CERTIFICATE,
            advanced=True,
            placeholder="-----BEGIN CERTIFICATE-----",
        ),
    )


def tls_problems(config: Mapping[str, str]) -> list[str]:
    """What is wrong with the authority, as sentences that start with the field's path."""
    pem = config.get("ca_certificate")
    if not pem:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return ["config.ca_certificate must be one or more certificates in PEM form"]
    return []


async def tls_context(config: Mapping[str, str], *, default: bool) -> PinnedContext | None:
    """The context to connect with, None where TLS is off. Raises DeliveryError for an unusable authority."""
    if config.get("tls", "true" if default else "false") != "true":
        return None
    try:
        return await asyncio.to_thread(_context, config.get("ca_certificate"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise DeliveryError("configuration_error", "The CA certificate of the destination cannot be used") from error


def _context(pem: str | None) -> PinnedContext:
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    if pem:
        context.load_verify_locations(cadata=pem)
    elif (bundle := system_bundle()) is not None:
        context.load_verify_locations(cafile=bundle)
    else:
        context.load_default_certs()
    return context
