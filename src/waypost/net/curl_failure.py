"""libcurl's failures in the words of Waypost: a named code, and a sentence that a customer understands."""

from __future__ import annotations

import errno
from urllib.parse import urlsplit

import pycurl
from msgspec import Struct

from waypost.core.causes import own_trouble
from waypost.core.errors import DeliveryError, Unavailable


class Failure(Struct, frozen=True, kw_only=True):
    """What libcurl says of a transfer that failed, and how far the transfer had come.

    `trouble` is why no socket could be opened. `abandoned`: a connection that was used before ended without an answer,
    and libcurl was not let send the request on another one.
    """

    code: int
    message: str
    errno: int
    forbidden: str | None
    trouble: Exception | None
    connected: bool
    secured: bool
    answering: bool
    abandoned: bool
    elapsed: float


_TLS = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_SSL_CRL_BADFILE,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_SSL_INVALIDCERTSTATUS,
        pycurl.E_USE_SSL_FAILED,
    }
)
OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What a system call says when this machine, and not the other one, has run out of something."""


def explain(failure: Failure, url: str) -> DeliveryError | Unavailable:
    """The error of a failed exchange; Unavailable if it says nothing about the receiver."""
    parts = urlsplit(url)
    where = parts.netloc
    if failure.trouble is not None:
        return _not_opened(failure.trouble, where)
    if failure.code == pycurl.E_OUT_OF_MEMORY or (not failure.connected and failure.errno in OWN_TROUBLE):
        return _wanting(OSError(failure.errno or errno.ENOMEM, _said(failure)), where)
    if failure.forbidden is not None:
        return DeliveryError("blocked_address", f"{where} is at {failure.forbidden}, which destinations may not reach")
    if failure.code == pycurl.E_OPERATION_TIMEDOUT:
        return DeliveryError("timeout", _timeout(failure, where, secure=parts.scheme == "https"))
    if failure.code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
        what = "proxy" if failure.code == pycurl.E_COULDNT_RESOLVE_PROXY else "host"
        return DeliveryError("dns_error", f"The address of the {what} could not be found on the way to {where}")
    if failure.code in _TLS:
        return DeliveryError("tls_error", f"No secure connection to {where}: {_said(failure)}")
    if failure.code == pycurl.E_COULDNT_CONNECT:
        return _no_connection(failure, where)
    return _broken_off(failure, where)


def _not_opened(trouble: Exception, where: str) -> DeliveryError | Unavailable:
    if isinstance(trouble, OSError) and trouble.errno in OWN_TROUBLE:
        return _wanting(trouble, where)
    said = (trouble.strerror if isinstance(trouble, OSError) else None) or type(trouble).__name__
    return DeliveryError("network_error", f"No connection to {where}: {said}")


def _wanting(trouble: OSError, where: str) -> Unavailable:
    sentence = f"No connection to {where} could be opened here: {trouble.strerror}"
    error = Unavailable(sentence, reason=own_trouble(trouble) or "other")
    error.__cause__ = trouble
    return error


def _timeout(failure: Failure, where: str, *, secure: bool) -> str:
    seconds = f"{failure.elapsed:.1f} s"
    if not failure.connected:
        return f"No connection to {where} within {seconds}"
    if secure and not failure.secured:
        return f"No secure connection to {where} within {seconds}"
    if not failure.answering:
        return f"{where} did not answer within {seconds}"
    return f"The answer of {where} was not complete within {seconds}"


def _no_connection(failure: Failure, where: str) -> DeliveryError:
    if failure.errno == errno.ECONNREFUSED:
        return DeliveryError("connection_refused", f"{where} refused the connection")
    if failure.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL):
        return DeliveryError("network_unreachable", f"There is no network route to {where}")
    if failure.errno == errno.ETIMEDOUT:
        return DeliveryError("timeout", _timeout(failure, where, secure=False))
    if failure.errno == errno.ECONNRESET:
        return DeliveryError("connection_reset", f"{where} closed the connection while it was being opened")
    return DeliveryError("network_error", f"No connection to {where}: {_said(failure)}")


def _broken_off(failure: Failure, where: str) -> DeliveryError:
    if failure.abandoned or failure.code == pycurl.E_GOT_NOTHING or failure.errno in (errno.ECONNRESET, errno.EPIPE):
        return DeliveryError("connection_reset", f"{where} closed the connection without an answer")
    if failure.code == pycurl.E_PARTIAL_FILE:
        return DeliveryError("connection_reset", f"{where} closed the connection in the middle of its answer")
    if failure.code == pycurl.E_URL_MALFORMAT:
        return DeliveryError("invalid_request", f"The URL cannot be requested: {_said(failure)}", retryable=False)
    return DeliveryError("network_error", f"The exchange with {where} failed: {_said(failure)}")


def _said(failure: Failure) -> str:
    return failure.message or f"libcurl error {failure.code}"
