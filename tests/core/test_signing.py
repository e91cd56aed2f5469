from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from waypost.core.signing import (
    Ed25519Signer,
    HmacSigner,
    Recipe,
    RecipeSigner,
    make_secret,
    parse_secret,
    standard_content,
    standard_signature,
    verify_ed25519,
)

ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE_KEY = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
CONTENT = standard_content(ID, TIMESTAMP, BODY)


def test_the_content_that_is_signed() -> None:
    assert CONTENT == b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'


def test_the_published_hmac_signature() -> None:
    signer = HmacSigner(parse_secret(SECRET))
    for _ in range(2):
        assert signer.sign(CONTENT) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_ed25519_signature() -> None:
    signature = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    signer = Ed25519Signer.parse(f"whsk_{PRIVATE_KEY}")
    assert signer.sign(CONTENT) == signature == Ed25519Signer.parse(PRIVATE_KEY).sign(CONTENT)
    assert signer.public_key == "whpk_" + base64.b64encode(base64.b64decode(PRIVATE_KEY)[32:]).decode()
    assert verify_ed25519(signer.public_key, CONTENT, signature)
    assert not verify_ed25519(signer.public_key, CONTENT + b" ", signature)
    assert not verify_ed25519(signer.public_key, CONTENT, "v1a,AAAA")


def test_a_private_key_may_be_a_seed() -> None:
    seed = base64.b64encode(base64.b64decode(PRIVATE_KEY)[:32]).decode()
    assert Ed25519Signer.parse(seed).public_key == Ed25519Signer.parse(PRIVATE_KEY).public_key


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("whsk_!!!", "must be base64"),
        ("whsk_AAAA", "must hold 32 or 64 bytes"),
        (base64.b64encode(bytes(64)).decode(), "must hold a public key that belongs"),
    ],
)
def test_private_keys_that_are_none(key: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Ed25519Signer.parse(key)


@given(st.binary(min_size=24, max_size=64))
def test_secrets_are_read_as_they_are_made(entropy: bytes) -> None:
    secret = make_secret(entropy)
    assert secret.startswith("whsec_")
    assert parse_secret(secret) == parse_secret(secret.removeprefix("whsec_")) == entropy


@pytest.mark.parametrize("length", [0, 23, 65])
def test_secrets_have_24_to_64_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        make_secret(bytes(length))
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        parse_secret("whsec_" + base64.b64encode(bytes(length)).decode())


@pytest.mark.parametrize("secret", ["whsec_not base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsec_ä"])
def test_secrets_are_base64(secret: str) -> None:
    with pytest.raises(ValueError, match="must be base64"):
        parse_secret(secret)


def _headers(signature: str, now: int) -> dict[str, str]:
    return {"webhook-id": ID, "webhook-timestamp": str(now), "webhook-signature": signature}


@given(body=st.text().map(lambda text: f'{{"a": "{text.encode().hex()}"}}'.encode()))
def test_receivers_libraries_accept_what_we_sign(body: bytes) -> None:
    now = int(time.time())
    new, old = make_secret(bytes(range(32))), make_secret(bytes(range(24)))
    signers = (HmacSigner(parse_secret(new)), HmacSigner(parse_secret(old)), Ed25519Signer.parse(PRIVATE_KEY))
    headers = _headers(standard_signature(signers, standard_content(ID, now, body)), now)
    for secret in (new, old):
        standardwebhooks.Webhook(secret).verify(body, headers)
        svix.Webhook(secret).verify(body, headers)


def test_receivers_libraries_refuse_another_secret() -> None:
    now = int(time.time())
    headers = _headers(standard_signature((HmacSigner(bytes(32)),), standard_content(ID, now, BODY)), now)
    other = make_secret(bytes(range(32)))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(other).verify(BODY, headers)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(other).verify(BODY, headers)


def test_we_sign_as_the_libraries_do() -> None:
    when = datetime.fromtimestamp(TIMESTAMP, UTC)
    ours = standard_signature((HmacSigner(parse_secret(SECRET)),), CONTENT)
    assert standardwebhooks.Webhook(SECRET).sign(ID, when, BODY.decode()) == ours


# mode default


def _hex(secret: str, content: bytes, digest: str = "sha256") -> str:
    return hmac.new(secret.encode(), content, digest).hexdigest()


def test_the_default_recipe_signs_the_body() -> None:
    assert RecipeSigner(Recipe(), ("new",)).sign(ID, TIMESTAMP, BODY) == f"v0={_hex('new', BODY)}"


def test_a_previous_secret_signs_after_a_comma() -> None:
    signed = RecipeSigner(Recipe(), ("new", "old")).sign(ID, TIMESTAMP, BODY)
    assert signed == f"v0={_hex('new', BODY)},{_hex('old', BODY)}"


def test_a_recipe_of_the_operators() -> None:
    recipe = Recipe(
        content="{event_id}:{timestamp}:{body}!",
        header="t={timestamp},s={signatures}",
        algorithm="hmac-sha512",
        encoding="base64",
    )
    body = b'{"a": "{timestamp}{event_id}"}'
    content = f"{ID}:{TIMESTAMP}:".encode() + body + b"!"
    expected = base64.b64encode(hmac.new(b"s", content, hashlib.sha512).digest()).decode()
    assert RecipeSigner(recipe, ("s",)).sign(ID, TIMESTAMP, body) == f"t={TIMESTAMP},s={expected}"


def test_sha1_for_old_receivers() -> None:
    signed = RecipeSigner(Recipe(algorithm="hmac-sha1"), ("s",)).sign(ID, TIMESTAMP, BODY)
    assert signed == f"v0={_hex('s', BODY, 'sha1')}"


@pytest.mark.parametrize("recipe", [Recipe(content="{timestamp}"), Recipe(header="v0")])
def test_a_recipe_has_to_name_what_matters(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="must contain"):
        RecipeSigner(recipe, ("s",))
