"""AWS without AWS: signatures against botocore's, what errors mean, and how credentials are kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import quote_plus

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from tests.net.conftest import Clients
from tests.net.receivers import Answer, Exchange, Receiver, receiver
from waypost.core.errors import DeliveryError
from waypost.net.aws import endpoint as endpoints
from waypost.net.aws.client import AwsClient, form_encoded
from waypost.net.aws.credentials import Credentials, Fixed, Lease, Leased, Source
from waypost.net.aws.errors import Fault, Service, error_of, fault_of, parse_xml
from waypost.net.aws.sigv4 import Signer
from waypost.net.aws.sts import STS, AssumedRole
from waypost.net.exchange import HttpRequest, HttpResponse, Timings

SQS = Service(name="sqs", host="sqs", label="Amazon SQS", thing="queue", missing="no_such_queue")
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AQoDYXdzEPT//////////wEXAMPLE"
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def credentials(session: str | None = None, **changes: str) -> Credentials:
    return Credentials(**{"key": KEY, "secret": SECRET, **changes}, session=session)


# signatures


def test_the_first_example_of_aws() -> None:
    """`get-vanilla` of AWS's Signature Version 4 test suite."""
    signer = Signer(credentials(), service="service", region="us-east-1")
    signed = signer.headers("GET", "/", {"host": "example.amazonaws.com"}, EMPTY, at=AT)
    assert signed == {
        "x-amz-date": "20150830T123600Z",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ),
    }


_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
_HEADERS = st.dictionaries(
    st.from_regex(r"x-amz-meta-[a-z0-9-]{1,12}", fullmatch=True),
    st.lists(_VALUES, max_size=4).map(" \t ".join),
    max_size=5,
)


@given(
    headers=_HEADERS,
    path=st.from_regex(r"(/[A-Za-z0-9._~%-]{1,10}){1,4}", fullmatch=True).filter(lambda path: "/." not in path),
    body=st.binary(max_size=200),
    session=st.none() | st.just(TOKEN),
    at=st.integers(0, 4_000_000_000),
    method=st.sampled_from(["GET", "PUT", "POST"]),
)
def test_every_request_is_signed_as_botocore_signs_it(
    headers: dict[str, str], path: str, body: bytes, session: str | None, at: int, method: str
) -> None:
    theirs = AWSRequest(method=method, url=f"https://bucket.example.com{path}", data=body, headers=headers)
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(at, UTC)):
        S3SigV4Auth(BotocoreCredentials(KEY, SECRET, session), "s3", "eu-west-1").add_auth(theirs)
    digest = theirs.headers["X-Amz-Content-SHA256"]
    ours = Signer(credentials(session), service="s3", region="eu-west-1").headers(
        method, path, {**headers, "host": "bucket.example.com", "x-amz-content-sha256": digest}, digest, at=at
    )
    assert ours["authorization"] == theirs.headers["Authorization"]


def test_a_query_is_signed_as_botocore_signs_it() -> None:
    url = "https://example.com/?list-type=2&max-keys=0"
    theirs = AWSRequest(method="GET", url=url, data=b"", headers={})
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(AT, UTC)):
        SigV4Auth(BotocoreCredentials(KEY, SECRET), "s3", "eu-west-1").add_auth(theirs)
    signer = Signer(credentials(), service="s3", region="eu-west-1")
    ours = signer.headers("GET", "/?list-type=2&max-keys=0", {"host": "example.com"}, EMPTY, at=AT)
    assert ours["authorization"] == theirs.headers["Authorization"]


def test_the_days_key_changes_with_the_day() -> None:
    signer = Signer(credentials(), service="sqs", region="eu-west-1")
    fresh = Signer(credentials(), service="sqs", region="eu-west-1")
    headers = {"host": "example.com"}
    first = signer.headers("GET", "/", headers, EMPTY, at=AT)
    signer.headers("GET", "/", headers, EMPTY, at=AT + 86_400)
    assert signer.headers("GET", "/", headers, EMPTY, at=AT) == first
    tomorrow = signer.headers("GET", "/", headers, EMPTY, at=AT + 86_400)
    assert tomorrow == fresh.headers("GET", "/", headers, EMPTY, at=AT + 86_400)


# endpoints


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://sqs.example.com", ("https://sqs.example.com", "sqs.example.com")),
        ("https://SQS.Example.com:443/", ("https://sqs.example.com", "sqs.example.com")),
        ("http://localhost:4566", ("http://localhost:4566", "localhost:4566")),
        ("http://[::1]:80", ("http://[::1]", "[::1]")),
        ("http://[::1]:4566", ("http://[::1]:4566", "[::1]:4566")),
    ],
)
def test_an_endpoint_of_ones_own(url: str, expected: tuple[str, str]) -> None:
    found = endpoints.override(url)
    assert (found.url, found.authority) == expected
    assert not found.of_aws


@pytest.mark.parametrize("url", ["https://example.com/a", "https://example.com/?a", "https://example.com#a//"])
def test_an_endpoint_has_no_path(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL without a path"):
        endpoints.override(url)


@pytest.mark.parametrize(
    ("url", "of_aws"),
    [
        ("https://sqs.eu-west-1.amazonaws.com", True),
        ("https://sqs.cn-north-1.amazonaws.com.cn", True),
        ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com", True),
        ("https://sqs.eu-west-1.api.aws", True),
        ("https://amazonaws.com.evil.example", False),
        ("https://notamazonaws.com", False),
        ("https://evil.aws", False),
    ],
)
def test_hosts_of_aws(url: str, of_aws: bool) -> None:
    assert endpoints.of_url(url).of_aws is of_aws


# what errors mean


def response(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(
        request=HttpRequest(method="POST", url="https://sqs.example.com/"),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
        truncated=False,
        timings=Timings(dns=0, connect=0, tls=0, first_byte=0, total=0),
        http_version="1.1",
    )


JSON_ERROR = b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}'
XML_ERROR = (
    b'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>NotFound</Code>'
    b"<Message>Topic does not exist</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
)
S3_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce &amp; retry</Message>'
    b"<RequestId>4442</RequestId></Error>"
)


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (response(400, JSON_ERROR), "QueueDoesNotExist", "The specified queue does not exist."),
        (response(400, b'{"__type":"X","Message":"capital"}'), "X", "capital"),
        (
            response(400, b'{"message":"m"}', x_amzn_errortype="ThrottlingException:http://x/"),
            "ThrottlingException",
            "m",
        ),
        (response(404, XML_ERROR), "NotFound", "Topic does not exist"),
        (response(503, S3_ERROR), "SlowDown", "Please reduce & retry"),
        (response(500, b"<html><body>Oops</body></html>"), "", ""),
        (response(500, b"<not closed"), "", ""),
        (response(502, b"Bad Gateway"), "", ""),
        (response(400, b'{"__type": 7}'), "", ""),
        (response(403), "", ""),
    ],
)
def test_an_error_is_read_in_each_of_its_forms(answer: HttpResponse, code: str, message: str) -> None:
    fault = fault_of(answer)
    assert (fault.code, fault.message, fault.status) == (code, message, answer.status)


def test_an_answer_with_a_document_type_is_not_read() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><Error><Code>&c;</Code></Error>'
    assert fault_of(response(400, bomb)).code == ""
    with pytest.raises(ValueError, match="document type"):
        parse_xml(bomb)


def test_long_messages_are_cut_and_nul_is_left_out() -> None:
    fault = fault_of(response(400, b'{"__type":"X","message":"a\\u0000' + b"m" * 5_000 + b'"}'))
    assert fault.message == "a" + "m" * 999


def test_the_request_id_and_the_wait_are_kept() -> None:
    fault = fault_of(response(503, S3_ERROR, x_amz_request_id="r-7", retry_after="17"))
    error = error_of(fault, SQS, "s3:PutObject")
    assert (error.code, error.retryable, error.retry_after) == ("throttled", True, 17.0)
    assert error.response == {
        "status_code": 503,
        "error": "SlowDown",
        "message": "Please reduce & retry",
        "request_id": "r-7",
    }


@pytest.mark.parametrize(
    ("said", "status", "code", "retryable"),
    [
        ("AccessDenied", 403, "access_denied", False),
        ("AccessDeniedException", 400, "access_denied", False),
        ("AuthorizationError", 403, "access_denied", False),
        ("KMS.AccessDeniedException", 400, "access_denied", False),
        ("NotAuthorizedForSourceException", 500, "access_denied", False),
        ("InvalidClientTokenId", 403, "bad_credentials", False),
        ("UnrecognizedClientException", 400, "bad_credentials", False),
        ("InvalidSignatureException", 400, "bad_credentials", False),
        ("SignatureDoesNotMatch", 403, "bad_credentials", False),
        ("InvalidAccessKeyId", 403, "bad_credentials", False),
        ("ExpiredToken", 400, "expired_credentials", False),
        ("ExpiredTokenException", 400, "expired_credentials", False),
        ("RequestTimeTooSkewed", 403, "clock_skew", True),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, "no_such_queue", False),
        ("QueueDoesNotExist", 400, "no_such_queue", False),
        ("NotFoundException", 404, "no_such_queue", False),
        ("", 404, "no_such_queue", False),
        ("UnknownOperationException", 404, "invalid_request", False),
        ("Throttling", 400, "throttled", True),
        ("ThrottlingException", 400, "throttled", True),
        ("ProvisionedThroughputExceededException", 400, "throttled", True),
        ("RequestThrottled", 403, "throttled", True),
        ("SlowDown", 503, "throttled", True),
        ("", 429, "throttled", True),
        ("AWS.SimpleQueueService.BatchRequestTooLong", 400, "message_too_large", False),
        ("EntityTooLarge", 400, "message_too_large", False),
        ("", 413, "message_too_large", False),
        ("MetadataTooLarge", 400, "metadata_too_large", False),
        ("PermanentRedirect", 301, "wrong_region", False),
        ("", 301, "wrong_region", False),
        ("KMS.DisabledException", 400, "invalid_request", False),
        ("KMSDisabledException", 400, "encryption_key", False),
        ("KmsThrottled", 400, "throttled", True),
        ("InternalError", 500, "service_unavailable", True),
        ("ServiceUnavailable", 503, "service_unavailable", True),
        ("", 500, "service_unavailable", True),
        ("SomethingNew", 599, "service_unavailable", True),
        ("SomethingNew", 400, "invalid_request", False),
        ("SomethingNew", 403, "access_denied", False),
        ("", 400, "invalid_request", False),
        ("", 418, "invalid_request", False),
        ("", 299, "invalid_request", False),
    ],
)
def test_what_a_code_means(said: str, status: int, code: str, retryable: bool) -> None:
    error = error_of(Fault(code=said, message="", status=status), SQS, "sqs:SendMessage")
    assert (error.code, error.retryable) == (code, retryable)
    assert error.sentence
    assert "{" not in error.sentence


@pytest.mark.parametrize(
    "message",
    [
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.",
        "Invalid parameter: Message too long",
        "Total size of the entries in the request is over the limit.",
        "1 validation error: Member must have length less than or equal to 1048576",
    ],
)
def test_messages_that_say_too_large(message: str) -> None:
    assert error_of(Fault(code="InvalidParameterValue", message=message, status=400), SQS, "x").code == (
        "message_too_large"
    )


def test_a_signature_that_has_expired_is_the_clocks_fault() -> None:
    fault = Fault(code="SignatureDoesNotMatch", message="Signature expired: 2015 is now earlier than 2016", status=403)
    assert error_of(fault, SQS, "x").code == "clock_skew"


def test_a_refusal_says_why() -> None:
    error = error_of(Fault(code="Odd", message="Unicorns only", status=400), SQS, "x")
    assert error.sentence == "Amazon SQS refused the request: Unicorns only"


def test_a_denial_says_which_permission_is_missing() -> None:
    error = error_of(Fault(code="AccessDenied", message="", status=403), SQS, "sqs:SendMessage")
    assert error.sentence == "Amazon SQS denied access: the credentials lack the permission sqs:SendMessage"


# credentials


def test_credentials_do_not_show_themselves() -> None:
    assert SECRET not in repr(credentials(TOKEN))
    assert SECRET not in f"{Lease(credentials(), 1.0)}"
    assert credentials(TOKEN).hide(f"{KEY} {SECRET} {TOKEN} rest") == "**** **** **** rest"


class Bank:
    """Hands out numbered credentials that live for an hour."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.handed_out = 0
        self.broken: DeliveryError | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self) -> Lease:
        self.handed_out += 1
        await self.may_answer.wait()
        if self.broken is not None:
            raise self.broken
        return Lease(credentials(f"session-{self.handed_out}"), self.now + 3_600)

    def source(self) -> Leased:
        return Leased(self.fetch, clock=lambda: self.now)


async def test_leased_credentials_are_kept_until_five_minutes_before_their_end() -> None:
    bank = Bank()
    source = bank.source()
    first = await source.current()
    bank.now += 3_299
    assert await source.current() is first
    bank.now += 2
    assert (await source.current()).session == "session-2"


async def test_a_short_lease_is_renewed_after_half_of_its_life() -> None:
    now = 0.0

    async def fetch() -> Lease:
        return Lease(credentials(str(now)), now + 60)

    source = Leased(fetch, clock=lambda: now)
    assert (await source.current()).session == "0.0"
    now = 29.0
    assert (await source.current()).session == "0.0"
    now = 31.0
    assert (await source.current()).session == "31.0"


async def test_many_who_ask_at_once_cause_one_fetch() -> None:
    bank = Bank()
    source = bank.source()
    bank.may_answer.clear()
    waiting = [asyncio.create_task(source.current()) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    bank.may_answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, Credentials) for result in results[1:])
    assert bank.handed_out == 1


async def test_a_fetch_that_fails_is_tried_again_by_the_next() -> None:
    bank = Bank()
    source = bank.source()
    bank.broken = DeliveryError("access_denied", "No", retryable=False)
    results = await asyncio.gather(source.current(), source.current(), return_exceptions=True)
    assert all(isinstance(result, DeliveryError) for result in results)
    assert results[0] is not results[1]
    assert bank.handed_out == 1
    bank.broken = None
    assert (await source.current()).session == "session-2"


# requests


def client_of(http: Any, url: str, source: Source | None = None) -> AwsClient:
    return AwsClient(http, endpoints.override(url), SQS, region="eu-west-1", source=source or Fixed(credentials()))


async def ask(client: AwsClient) -> dict[str, Any]:
    answer, _ = await client.json("AmazonSQS.X", {"a": 1}, version="1.0", action="sqs:X", answer=dict[str, Any])
    return answer


def url_of(server: Receiver) -> str:
    return f"http://127.0.0.1:{server.port}"


def says(body: bytes, status: int = 200, headers: str = "") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return answer


async def test_a_json_request(client: Clients) -> None:
    async with client() as http, receiver(says(b'{"b":2}')) as server:
        assert await ask(client_of(http, url_of(server))) == {"b": 2}
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/", b'{"a":1}')
    assert seen.headers["content-type"] == "application/x-amz-json-1.0"
    assert seen.headers["x-amz-target"] == "AmazonSQS.X"
    assert (
        "/eu-west-1/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target"
        in (seen.headers["authorization"])
    )


@pytest.mark.parametrize("body", [b"not json", b"[1]", b""])
async def test_an_answer_that_cannot_be_understood(client: Clients, body: bytes) -> None:
    async with client() as http, receiver(says(body)) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server)))
    assert (caught.value.code, caught.value.retryable) == ("invalid_response", True)


async def test_an_answer_that_is_too_long(client: Clients) -> None:
    async with client(body_cap=20) as http, receiver(says(b'{"b":"' + b"x" * 100 + b'"}')) as server:
        with pytest.raises(DeliveryError, match="longer than what Waypost keeps") as caught:
            await ask(client_of(http, url_of(server)))
    assert caught.value.code == "invalid_response"


async def test_a_query_whose_answer_is_not_xml(client: Clients) -> None:
    async with client() as http, receiver(says(b"{}")) as server:
        with pytest.raises(DeliveryError, match="cannot be understood"):
            await client_of(http, url_of(server)).query({"Action": "X"}, action="sqs:X")


async def test_throttling_says_how_long_to_wait(client: Clients) -> None:
    answer = says(b'{"__type":"ThrottlingException","message":"Rate exceeded"}', 400, "retry-after: 7\r\n")
    async with client() as http, receiver(answer) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server)))
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after) == ("throttled", True, 7.0)


async def test_nothing_of_the_credentials_is_repeated(client: Clients) -> None:
    body = f'{{"__type":"Odd{KEY}","message":"got {KEY} and {SECRET} and {TOKEN}"}}'.encode()
    async with client() as http, receiver(says(body, 400)) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server), Fixed(credentials(TOKEN))))
    said = f"{caught.value} {caught.value.response}"
    assert "got **** and **** and ****" in said
    assert not any(secret in said for secret in (KEY, SECRET, TOKEN))


async def test_what_is_said_of_a_wrong_signature_is_not_kept(client: Clients) -> None:
    body = b'{"__type":"InvalidSignatureException","message":"The Canonical String should have been x-amz-..."}'
    async with client() as http, receiver(says(body, 403)) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server)))
    kept = caught.value.response or {}
    assert kept.keys() == {"status_code", "error", "headers", "timings"}
    assert (kept["status_code"], kept["error"]) == (403, "InvalidSignatureException")


def expired_unless(token: str) -> Answer:
    async def answer(exchange: Exchange) -> None:
        if exchange.seen.headers["x-amz-security-token"] == token:
            await exchange.answer(200, b"{}")
        else:
            await exchange.answer(400, b'{"__type":"ExpiredTokenException","message":"expired"}')

    return answer


async def test_expired_credentials_are_renewed_and_the_request_is_made_again(client: Clients) -> None:
    bank = Bank()
    async with client() as http, receiver(expired_unless("session-2")) as server:
        asking = client_of(http, url_of(server), bank.source())
        assert await ask(asking) == {}
        assert await ask(asking) == {}
    assert bank.handed_out == 2
    assert len(server.seen) == 3


async def test_many_that_find_them_expired_renew_them_once(client: Clients) -> None:
    bank = Bank()
    async with client() as http, receiver(expired_unless("session-2")) as server:
        asking = client_of(http, url_of(server), bank.source())
        assert await asyncio.gather(*(ask(asking) for _ in range(10))) == [{}] * 10
    assert bank.handed_out == 2


async def test_the_request_is_made_again_once_only(client: Clients) -> None:
    bank = Bank()
    async with client() as http, receiver(expired_unless("never")) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server), bank.source()))
    assert caught.value.code == "expired_credentials"
    assert len(server.seen) == 2


async def test_a_typed_in_session_that_has_expired_is_not_tried_again(client: Clients) -> None:
    async with client() as http, receiver(expired_unless("other")) as server:
        with pytest.raises(DeliveryError) as caught:
            await ask(client_of(http, url_of(server), Fixed(credentials(TOKEN))))
    assert (caught.value.code, caught.value.retryable) == ("expired_credentials", False)
    assert len(server.seen) == 1


def test_a_message_that_the_answer_leaves_out_has_failed() -> None:
    asking = client_of(None, "https://example.com")
    first, second = asking.in_order({"0": "receipt"}, ["0", "1"])
    assert first == "receipt"
    assert isinstance(second, DeliveryError)
    assert (second.code, second.retryable) == ("invalid_response", True)


@given(st.text(st.characters(max_codepoint=127)) | st.text())
def test_forms_are_encoded_as_the_standard_library_encodes_them(text: str) -> None:
    assert form_encoded(text) == quote_plus(text)


# roles


def role_answer(until: str) -> bytes:
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        f"<Expiration>{until}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


def role_of(http: Any, url: str, external_id: str | None = None) -> AssumedRole:
    sts = AwsClient(http, endpoints.override(url), STS, region="eu-west-1", source=Fixed(credentials()))
    return AssumedRole(sts, "arn:aws:iam::123456789012:role/r", external_id, "waypost-a b/ü" + "x" * 80)


async def test_assuming_a_role(client: Clients) -> None:
    async with client() as http, receiver(says(role_answer("2030-01-02T03:04:05Z"))) as server:
        lease = await role_of(http, url_of(server), "acme:42").fetch()
    assert lease.credentials == Credentials(key="ASIA1", secret="s", session="t")
    assert lease.until == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    (seen,) = server.seen
    assert b"ExternalId=acme%3A42" in seen.body
    assert b"RoleSessionName=waypost-a-b--" in seen.body
    assert b"/eu-west-1/sts/aws4_request" in seen.headers["authorization"].encode()


async def test_no_external_id_is_sent_where_there_is_none(client: Clients) -> None:
    async with client() as http, receiver(says(role_answer("2030-01-02T03:04:05Z"))) as server:
        await role_of(http, url_of(server)).fetch()
    assert b"ExternalId" not in server.seen[0].body


@pytest.mark.parametrize("body", [b"<a/>", role_answer("soon")])
async def test_an_answer_of_sts_that_cannot_be_understood(client: Clients, body: bytes) -> None:
    async with client() as http, receiver(says(body)) as server:
        with pytest.raises(DeliveryError, match="STS cannot be understood"):
            await role_of(http, url_of(server)).fetch()


async def test_a_role_that_cannot_be_assumed(client: Clients) -> None:
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    async with client() as http, receiver(says(denied, 403)) as server:
        with pytest.raises(DeliveryError, match="trust policy") as caught:
            await role_of(http, url_of(server)).fetch()
    assert (caught.value.code, caught.value.sentence) == ("access_denied", str(caught.value))
