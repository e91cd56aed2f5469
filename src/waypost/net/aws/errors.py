"""What AWS's errors mean: a named code, whether to try again, and a sentence that a customer understands."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse
from waypost.net.retry_after import retry_after

_LONGEST_MESSAGE = 1_000


class Service(Struct, frozen=True, kw_only=True):
    """A service as requests and errors name it.

    `name` is its name in signatures, `host` the first part of its host. `missing` is the code when the thing that
    events go to does not exist, `thing` what it is called.
    """

    name: str
    host: str
    label: str
    thing: str
    missing: str


class Fault(Struct, frozen=True, kw_only=True):
    """An error as the service says it. `status` is HTTP's; for one entry of a batch, what would have been its."""

    code: str
    message: str
    status: int
    request_id: str | None = None
    retry_after: float | None = None


class Meaning(Struct, frozen=True):
    """What a fault means to Waypost. The sentence may use `{label}`, `{thing}` and `{action}`."""

    code: str
    sentence: str
    retryable: bool = False


_DENIED = Meaning("access_denied", "{label} denied access: the credentials lack the permission {action}")
_CREDENTIALS = Meaning(
    "bad_credentials", "{label} does not accept the credentials: check key, secret and session token"
)
_EXPIRED = Meaning("expired_credentials", "{label} says that the credentials have expired")
_CLOCK = Meaning("clock_skew", "{label} refused the request because of its time: Waypost's clock is wrong", True)
_THROTTLED = Meaning("throttled", "{label} asks to send less at once", True)
_TOO_LARGE = Meaning("message_too_large", "The event is larger than {label} or the {thing} takes")
_METADATA = Meaning("metadata_too_large", "The event's metadata is larger than {label} takes")
_REGION = Meaning("wrong_region", "The {thing} is not in this region")
_ENCRYPTION = Meaning("encryption_key", "The key that encrypts the {thing} cannot be used")
_UNAVAILABLE = Meaning("service_unavailable", "{label} failed to handle the request", True)
_REFUSED = Meaning("invalid_request", "{label} refused the request")
_OUTDATED = Meaning("conflict", "{label} is busy with another request for the same thing", True)

_MEANINGS: Mapping[str, Meaning] = {
    code.lower(): meaning
    for meaning, codes in {
        _DENIED: (
            "AccessDenied",
            "AccessDeniedException",
            "AllAccessDisabled",
            "AuthorizationError",
            "AuthorizationErrorException",
            "InvalidSecurity",
            "KMSAccessDenied",
            "KMSAccessDeniedException",
            "NotAuthorized",
            "NotAuthorizedForDetailTypeException",
            "NotAuthorizedForSourceException",
            "UnauthorizedOperation",
        ),
        _CREDENTIALS: (
            "AuthFailure",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "MissingSecurityHeader",
            "NotSignedUp",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        _EXPIRED: ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"),
        _CLOCK: ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
        _THROTTLED: (
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "KMSThrottled",
            "KMSThrottlingException",
            "KinesisThrottled",
            "LimitExceeded",
            "LimitExceededException",
            "OverLimit",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "Throttled",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
        _TOO_LARGE: (
            "BatchRequestTooLong",
            "EntityTooLarge",
            "MaxMessageLengthExceeded",
            "MessageTooLong",
            "RequestEntityTooLarge",
            "RequestEntityTooLargeException",
        ),
        _METADATA: ("MetadataTooLarge",),
        _REGION: ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"),
        _ENCRYPTION: (
            "KMSDisabled",
            "KMSDisabledException",
            "KMSInvalidState",
            "KMSInvalidStateException",
            "KMSNotFound",
            "KMSNotFoundException",
            "KMSOptInRequired",
        ),
        _UNAVAILABLE: (
            "InternalError",
            "InternalException",
            "InternalFailure",
            "InternalServerError",
            "ServiceUnavailable",
            "ServiceUnavailableException",
        ),
        _OUTDATED: ("ConcurrentModificationException", "OperationAborted", "PriorRequestNotComplete"),
    }.items()
    for code in codes
}
_MISSING = frozenset(
    {
        "nonexistentqueue",
        "nosuchbucket",
        "notfound",
        "notfoundexception",
        "queuedoesnotexist",
        "resourcenotfound",
        "resourcenotfoundexception",
    }
)
_BY_STATUS: Mapping[int, Meaning] = {
    HTTPStatus.MOVED_PERMANENTLY: _REGION,
    HTTPStatus.UNAUTHORIZED: _CREDENTIALS,
    HTTPStatus.FORBIDDEN: _DENIED,
    HTTPStatus.REQUEST_TIMEOUT: _UNAVAILABLE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS: _THROTTLED,
}
_TOO_LARGE_IN_WORDS = (
    "message must be shorter than",
    "message too long",
    "length less than or equal to",
    "over the limit",
    "exceeds the limit",
    "exceeded the limit",
    "maximum size",
    "too large",
    "larger than",
)


def error_of(fault: Fault, service: Service, action: str) -> DeliveryError:
    """The error of a request, or of one message in it. `action` is the permission that the request needs."""
    meaning = _meaning(fault, service)
    sentence = meaning.sentence.format(label=service.label, thing=service.thing, action=action)
    if meaning is _REFUSED and fault.message:
        sentence = f"{sentence}: {fault.message}"
    return DeliveryError(
        meaning.code,
        sentence,
        retryable=meaning.retryable,
        retry_after=fault.retry_after,
        response=_shown(fault, quiet=meaning is _CREDENTIALS),
    )


def _meaning(fault: Fault, service: Service) -> Meaning:
    code = fault.code.lower().rpartition(".")[2]
    missing = Meaning(service.missing, "{label} knows no such {thing} in this account and region")
    if code in _MISSING:
        return missing
    if code == "signaturedoesnotmatch" and "expired" in fault.message.lower():
        return _CLOCK
    if code in _MEANINGS:
        return _MEANINGS[code]
    if fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _UNAVAILABLE
    if any(words in fault.message.lower() for words in _TOO_LARGE_IN_WORDS):
        return _TOO_LARGE
    if fault.status == HTTPStatus.NOT_FOUND and not code:
        return missing
    return _BY_STATUS.get(fault.status, _REFUSED)


def _shown(fault: Fault, *, quiet: bool) -> dict[str, Any]:
    """The fault as it is kept on the attempt. What is said of a wrong signature repeats the request's headers."""
    kept: dict[str, Any] = {"status_code": fault.status}
    if fault.code:
        kept["error"] = fault.code
    if fault.message and not quiet:
        kept["message"] = fault.message
    if fault.request_id:
        kept["request_id"] = fault.request_id
    return kept


# reading answers


def fault_of(response: HttpResponse) -> Fault:
    """The error in an answer, in whichever of AWS's ways it is said."""
    body = response.body.lstrip()
    code, message = _from_xml(body) if body.startswith(b"<") else _from_json(body)
    headers = response.headers
    code = code or headers.get("x-amzn-errortype", "").partition(":")[0]
    return Fault(
        code=code.rpartition("#")[2],
        message=message.replace("\x00", "")[:_LONGEST_MESSAGE],
        status=response.status,
        request_id=request_id(response),
        retry_after=retry_after(headers.get("retry-after"), now=time.time()),
    )


def request_id(response: HttpResponse) -> str | None:
    """AWS's own number of a request, by which its support finds it."""
    return response.headers.get("x-amzn-requestid") or response.headers.get("x-amz-request-id")


class _JsonError(Struct):
    type: str = msgspec.field(default="", name="__type")
    code: str = ""
    message: str = ""
    Message: str = ""


def _from_json(body: bytes) -> tuple[str, str]:
    try:
        found = read_json(body, type=_JsonError)
    except msgspec.DecodeError:
        return "", ""
    return found.type or found.code, found.message or found.Message


def _from_xml(body: bytes) -> tuple[str, str]:
    try:
        root = parse_xml(body)
    except ValueError:
        return "", ""
    error = root if root.tag == "Error" else root.find(".//Error")
    return ("", "") if error is None else (text_of(error, "Code"), text_of(error, "Message"))


def parse_xml(body: bytes) -> ET.Element:
    """The document's root, its names free of namespaces. Raises ValueError for what is none, or has a DTD."""
    if b"<!DOCTYPE" in body or b"\x00" in body:  # the latter in an encoding that hides the former
        raise ValueError("an answer may not have a document type")
    try:
        root = ET.fromstring(body)  # noqa: S314 - without a DTD there are no entities to expand
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: ET.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()
