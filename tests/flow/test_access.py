"""Who is calling."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import jwt
import pytest

from waypost.core.errors import BadRequest, Invalid, NotFound, Unauthorized, Unavailable
from waypost.core.model import DAY, SECOND, SYSTEM
from waypost.flow import access as access_module
from waypost.flow import clock
from waypost.flow.access import Access, KeyHolder, TenantUser
from waypost.store.base import ApiKey, Store

JWT_SECRET = b"a secret of the tests, long enough for HS256"


def make(store: Any, **changes: Any) -> Access:
    settings: dict[str, Any] = {"jwt_secret": JWT_SECRET, "jwt_lifetime": 60.0, "now": clock.now}
    return Access(store, **settings | changes)


def claims(**changes: Any) -> dict[str, Any]:
    said = {"iss": "waypost", "sub": "acme", "exp": clock.now() // SECOND + 3_600} | changes
    return {key: value for key, value in said.items() if value is not None}


def bearer(payload: dict[str, Any], *, secret: bytes = JWT_SECRET, algorithm: str = "HS256") -> str:
    return f"Bearer {jwt.encode(payload, secret, algorithm=algorithm)}"


async def test_the_first_start_makes_a_key_once(store: Store) -> None:
    access = make(store)
    first = await access.ensure_key()
    assert first is not None
    assert access.identify(f"Bearer {first.secret}") == KeyHolder("first")
    assert await access.ensure_key() is None
    assert await make(store).ensure_key() is None


async def test_a_fixed_key_makes_the_first_key_needless(store: Store) -> None:
    access = make(store, fixed_key="operator-key")
    assert await access.ensure_key() is None
    assert access.identify("Bearer operator-key") == KeyHolder("settings")
    assert await access.keys() == ()


async def test_only_a_digest_is_stored(store: Store) -> None:
    new = await make(store).add_key("ci")
    (stored,) = await store.api_keys()
    assert stored.digest == sha256(new.secret.encode()).digest()
    assert new.secret.startswith(stored.hint)
    assert len(stored.hint) < len(new.secret) // 4


async def test_several_keys_work_beside_the_fixed_one(store: Store) -> None:
    access = make(store, fixed_key="operator-key")
    ci, cd = await access.add_key("ci"), await access.add_key("cd")
    assert access.identify(f"Bearer {ci.secret}") == KeyHolder("ci")
    assert access.identify(f"Bearer {cd.secret}") == KeyHolder("cd")
    assert access.identify(b"Bearer operator-key") == KeyHolder("settings")
    assert [key.name for key in await access.keys()] == ["ci", "cd"]


async def test_a_revoked_key_is_worthless_at_once(store: Store) -> None:
    access = make(store)
    ci, cd = await access.add_key("ci"), await access.add_key("cd")
    await access.revoke_key(ci.key.id)
    with pytest.raises(Unauthorized):
        access.identify(f"Bearer {ci.secret}")
    assert access.identify(f"Bearer {cd.secret}") == KeyHolder("cd")


async def test_the_last_key_stays(store: Store) -> None:
    access = make(store)
    only = await access.add_key("only")
    with pytest.raises(BadRequest, match="last API key"):
        await access.revoke_key(only.key.id)
    with pytest.raises(NotFound):
        await access.revoke_key("key_unknown")
    assert access.identify(f"Bearer {only.secret}") == KeyHolder("only")


async def test_the_last_key_may_go_when_there_is_a_fixed_one(store: Store) -> None:
    access = make(store, fixed_key="operator-key")
    only = await access.add_key("only")
    await access.revoke_key(only.key.id)
    assert await access.keys() == ()


async def test_another_processs_changes_are_seen_after_a_refresh(store: Store) -> None:
    here, there = make(store), make(store)
    new = await there.add_key("ci")
    with pytest.raises(Unauthorized):
        here.identify(f"Bearer {new.secret}")
    await here.refresh()
    assert here.identify(f"Bearer {new.secret}") == KeyHolder("ci")


async def test_keys_are_kept_fresh_through_an_unavailable_store(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "wpk_of-elsewhere"
    key = ApiKey(id="key_1", name="ci", digest=sha256(secret.encode()).digest(), hint="wpk_", created_at=0)
    answers: list[tuple[ApiKey, ...] | Unavailable] = [Unavailable("closed"), (key,)]
    seen = asyncio.Event()

    class Flaky:
        async def revoked_tokens(self, *, now: int) -> frozenset[str]:
            return frozenset()

        async def api_keys(self) -> tuple[ApiKey, ...]:
            came = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(came, Unavailable):
                raise came
            seen.set()
            return came

    monkeypatch.setattr(access_module, "REFRESH_SECONDS", 0.0)
    access = make(Flaky())
    await access.background.start()
    await seen.wait()
    await access.background.close()
    assert access.identify(f"Bearer {secret}") == KeyHolder("ci")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, "\x00"])
async def test_a_bad_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(Invalid, match="validation error"):
        await make(store).add_key(name)


async def test_a_taken_name_is_refused(store: Store) -> None:
    access = make(store)
    await access.add_key("ci")
    with pytest.raises(BadRequest):
        await access.add_key("ci")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "wpk_x",
        "Basic d3A6eA==",
        "Bearer wrong",
        "Token key",
        b"Bearer \xff\xfe",
        "Bearer é",
        "Bearer \ud800",
    ],
)
async def test_anything_else_is_nobody(store: Store, header: str | bytes | None) -> None:
    access = make(store, fixed_key="key")
    with pytest.raises(Unauthorized):
        access.identify(header)


@pytest.mark.parametrize("header", ["bearer key", "BEARER key", "Bearer   key ", b"Bearer key"])
async def test_the_scheme_is_case_insensitive(store: Store, header: str | bytes) -> None:
    assert make(store, fixed_key="key").identify(header) == KeyHolder("settings")


async def test_a_minted_token_is_its_tenant(store: Store) -> None:
    access = make(store)
    token = access.mint("acme")
    user = access.identify(f"Bearer {token}")
    assert isinstance(user, TenantUser)
    assert (user.tenant_id, sorted(user.rights), user.epoch) == ("acme", ["manage", "replay", "view"], 0)
    said = jwt.decode(token, JWT_SECRET.ljust(64, b"\0"), algorithms=["HS256"])
    assert (said["iss"], said["sub"], said["exp"] - said["iat"]) == ("waypost", "acme", 60)


@pytest.mark.parametrize("issuer", ["waypost", "outpost"])
async def test_tokens_of_both_issuers_are_taken(store: Store, issuer: str) -> None:
    assert make(store).identify(bearer(claims(iss=issuer))) == TenantUser("acme")


async def test_a_short_secret_signs_as_other_libraries_do(store: Store) -> None:
    access = make(store, jwt_secret=b"short")
    token = access.mint("acme")
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        assert jwt.decode(token, b"short", algorithms=["HS256"])["sub"] == "acme"


@pytest.mark.parametrize(
    "header",
    [
        bearer(claims(exp=1)),
        bearer(claims(exp=None)),
        bearer(claims(sub=None)),
        bearer(claims(sub="")),
        bearer(claims(iss=None)),
        bearer(claims(iss="somebody")),
        bearer(claims(nbf=4_000_000_000)),
        bearer(claims(), secret=b"another secret that is long enough for HS256"),
        bearer(claims(), secret=JWT_SECRET.ljust(64, b"."), algorithm="HS512"),
        f"Bearer {jwt.encode(claims(), '', algorithm='none')}",
        "Bearer a.b.c",
        "Bearer ..",
    ],
)
async def test_a_token_that_breaks_a_rule_is_nobody(store: Store, header: str) -> None:
    with pytest.raises(Unauthorized):
        make(store).identify(header)


async def test_an_expired_token_is_told_so(store: Store) -> None:
    with pytest.raises(Unauthorized, match="expired"):
        make(store).identify(bearer(claims(exp=1)))


async def test_a_key_cannot_pass_for_a_token_nor_a_token_for_a_key(store: Store) -> None:
    access = make(store)
    new = await access.add_key("ci")
    assert isinstance(access.identify(f"Bearer {access.mint('ci')}"), TenantUser)
    assert isinstance(access.identify(f"Bearer {new.secret}"), KeyHolder)


async def test_revocations_outlast_the_process_and_are_forgotten_in_time(store: Store) -> None:
    await store.put_tenant("acme", None, now=clock.now())
    access = make(store)
    new = await access.hand_out("acme", by=SYSTEM)
    await access.revoke("acme", new.id)
    for other in (access, make(store)):
        await other.refresh()
        with pytest.raises(Unauthorized, match="revoked"):
            other.identify(f"Bearer {new.token}")
    assert await store.revoked_tokens(now=new.expires_at - 1) == {new.id}
    assert await store.revoked_tokens(now=new.expires_at) == frozenset()
    assert await store.revoked_tokens(now=0) == frozenset()


async def test_a_step_of_the_clock_that_is_not_believed_makes_no_revoked_token_work_again(store: Store) -> None:
    await store.put_tenant("acme", None, now=clock.now())
    step = 0
    believed = clock.now()
    access = make(store, now=lambda: clock.now() + step, forgetting=lambda: believed)
    new = await access.hand_out("acme", by=SYSTEM)
    await access.revoke("acme", new.id)
    step = 100 * DAY
    await access.refresh()
    step = 0
    await access.refresh()
    with pytest.raises(Unauthorized, match="revoked"):
        access.identify(f"Bearer {new.token}")


async def test_a_foreign_token_is_kept_revoked_for_the_longest_life(store: Store) -> None:
    access = make(store, jwt_max_lifetime=1_000.0)
    await access.revoke("acme", "an id of their own")
    assert await store.revoked_tokens(now=clock.now() + 990 * SECOND)
    assert not await store.revoked_tokens(now=clock.now() + 1_001 * SECOND)


async def test_an_expired_key_is_worthless(store: Store) -> None:
    instant = clock.now()
    access = make(store, now=lambda: instant)
    new = await access.add_key("ci", expires_at=instant + SECOND)
    assert isinstance(access.identify(f"Bearer {new.secret}"), KeyHolder)
    instant += SECOND
    with pytest.raises(Unauthorized, match="the API key has expired"):
        access.identify(f"Bearer {new.secret}")


async def test_the_last_key_that_lasts_stays(store: Store) -> None:
    access = make(store)
    lasting = await access.add_key("lasting")
    await access.add_key("reader", scopes=["read"])
    await access.add_key("soon over", expires_at=clock.now() + 60 * SECOND)
    with pytest.raises(BadRequest, match="does not expire"):
        await access.revoke_key(lasting.key.id)
    await access.add_key("another")
    await access.revoke_key(lasting.key.id)


async def test_keys_that_do_not_open_everything_do_not_count_as_the_first(store: Store) -> None:
    await make(store, fixed_key="operator-key").add_key("first", scopes=["read"])
    made = await make(store).ensure_key()
    assert made is not None
    assert made.key.name.startswith("first-")


@pytest.mark.parametrize(
    "odd",
    [
        {"rights": "view"},
        {"rights": ["all"]},
        {"rights": [{}]},
        {"incarnation": "2", "epoch": 0},
        {"incarnation": 1},
        {"incarnation": 0, "epoch": 0},
        {"incarnation": True, "epoch": 0},
    ],
)
async def test_claims_that_make_no_sense_are_nobodys(store: Store, odd: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        make(store).identify(bearer(claims(**odd)))


@pytest.mark.parametrize(("age", "lets_in"), [(-1, True), (0, True), (3, False), (None, False)])
async def test_a_token_that_says_no_tenant_of_its_id_is_no_older_than_it(
    store: Store, age: int | None, lets_in: bool
) -> None:
    now = clock.now()
    await store.put_tenant("acme", None, now=now)
    user = make(store).identify(bearer(claims(iat=None if age is None else now // SECOND - age)))
    found = await store.tenant("acme")
    assert isinstance(user, TenantUser)
    assert found is not None
    assert user.is_let_in_by(found.tenant) is lets_in


async def test_the_next_tenant_of_an_id_takes_no_token_of_the_second_it_was_made_in(store: Store) -> None:
    now = clock.now() // SECOND * SECOND + 500_000
    await store.put_tenant("acme", None, now=now)
    await store.delete_tenant("acme", now=now)
    await store.put_tenant("acme", None, now=now)
    user = make(store).identify(bearer(claims(iat=now // SECOND)))
    assert user.tenant_id == "acme 2"
    assert isinstance(user, TenantUser)
    found = await store.tenant("acme 2")
    assert found is not None
    assert not user.is_let_in_by(found.tenant)
