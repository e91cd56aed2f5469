"""What every destination type has to do, whoever wrote it: the types are those that the registry finds.

A new type is covered by being there. Where its form's placeholders make no destination that can be saved, it adds a
sample to proof.toml, beside what it is tested against.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from msgspec import structs
from packaging.requirements import Requirement

from tests.api.kit import World
from tests.destinations.messages import NOON, message
from tests.destinations.proof import Sample, proofs, sample
from tests.store.builders import OPERATOR
from tests.store.conftest import sqlite_store
from waypost.api.models import DestinationTypeSchema
from waypost.connect import fields
from waypost.connect.connector import Change, Connection, DestinationType, Tools
from waypost.connect.fields import MASK, Field
from waypost.connect.registry import Registry
from waypost.core.errors import DeliveryError, Invalid, MissingExtra
from waypost.core.model import Destination
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TYPES = Registry.discover()
_LARGEST_ICON = 4_000
_SOUNDS_SECRET = re.compile(r"password|secret|token|connection_string|service_account_json|private_key|api_key")
_SHOWN_IN_CLEAR = {"webhook": {"secret", "previous_secret", "previous_secret_invalid_at", "rotate_secret"}}
"""A webhook's signing secret is the customer's own to see (webhooks could not be verified otherwise)."""

every_type = pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)


class _Nowhere:
    """A resolver that knows no name."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        raise DeliveryError("dns_error", f"There is no address for {host}")


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    guard = AddressGuard()
    resolver = GuardedResolver(_Nowhere(), guard)
    http = HttpClient(HttpSettings(), resolver, guard)
    await http.start()
    yield Tools(http=http, guard=guard, resolver=resolver, options={})
    await http.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = sqlite_store(tmp_path)
    await store.open()
    made = World(store, types=Registry.discover(), topics=())
    await made.populate()
    yield made
    await store.close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whoever looks up a name or opens a connection is noted and fails."""
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def call(*arguments: Any, **_: Any) -> Any:
            tried.append(f"{name}{arguments!r}")
            raise OSError(f"{name} is forbidden here")

        return call

    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    yield tried
    assert tried == []


def body_of(kind: DestinationType, values: Sample | None = None, **changes: Any) -> dict[str, Any]:
    values = values or sample(kind)
    return {
        "type": kind.type,
        "topics": "*",
        "config": values.config,
        "credentials": values.credentials,
    } | changes


def destination_of(kind: DestinationType, values: Sample) -> Destination:
    return Destination(
        no=1,
        id="des_1",
        tenant_id="acme",
        type=kind.type,
        topics=("*",),
        config=values.config,
        credentials=values.credentials,
        created_at=NOON,
        updated_at=NOON,
    )


async def problems(world: World, body: dict[str, Any]) -> list[str]:
    """The sentences with which a create is refused."""
    with pytest.raises(Invalid) as info:
        await world.manager.create("acme", body, by=OPERATOR)
    assert isinstance(info.value.data, list)
    return info.value.data


def all_fields(kind: DestinationType) -> list[tuple[str, Field]]:
    return [
        *(("config", field) for field in kind.config_fields),
        *(("credentials", field) for field in kind.credential_fields),
    ]


def no_secret_in(text: str, kind: DestinationType, values: Sample) -> None:
    assert not [secret for secret in values.secrets(kind) if secret in text]


# the description


@every_type
def test_the_description_has_the_apis_shape(kind: DestinationType) -> None:
    described = msgspec.json.decode(msgspec.json.encode(kind.describe()))
    DestinationTypeSchema.model_validate(described, strict=True)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", described["type"])
    assert 2 <= len(described["label"]) <= 40
    assert described["description"].endswith(".")


@every_type
def test_the_fields_make_sense(kind: DestinationType) -> None:
    keys = [(where, field.key) for where, field in all_fields(kind)]
    assert len(set(keys)) == len(keys)
    for _, field in all_fields(kind):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", field.key)
        assert field.label
        assert field.description[:1].isupper(), field.key
        assert bool(field.options) == (field.type == "select"), field.key
        assert field.default is None or field.problem(field.key, field.default) is None
        re.compile(field.pattern or "")
        assert field.pattern is None or field.pattern_hint, f"{field.key} has a pattern that nobody can read"
        assert not (field.required and field.advanced), f"{field.key} is required and folded away"


@every_type
def test_what_sounds_secret_is_sensitive(kind: DestinationType) -> None:
    sounding = {field.key for _, field in all_fields(kind) if _SOUNDS_SECRET.search(field.key)}
    sensitive = {field.key for _, field in all_fields(kind) if field.sensitive}
    assert sounding - sensitive <= _SHOWN_IN_CLEAR.get(kind.type, set())


@every_type
def test_the_icon_is_a_small_harmless_picture(kind: DestinationType) -> None:
    assert len(kind.icon) <= _LARGEST_ICON
    assert "<!" not in kind.icon
    root = ET.fromstring(kind.icon)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox")
    for element in root.iter():
        assert element.tag.startswith("{http://www.w3.org/2000/svg}")
        assert element.tag.partition("}")[2] not in {"script", "foreignObject", "style", "image", "use", "a", "animate"}
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on")
            assert "href" not in name.lower()
            assert "url(" not in value
            assert ":" not in value


@every_type
def test_the_instructions_say_what_to_do(kind: DestinationType) -> None:
    assert len(kind.instructions) >= 100
    assert not re.search(r"<[a-zA-Z/!]", re.sub(r"```.*?```|`[^`]*`", "", kind.instructions, flags=re.DOTALL))


# what may be saved


@every_type
async def test_every_missing_required_field_is_named(kind: DestinationType, world: World) -> None:
    required = {f"{where}.{field.key} is required" for where, field in all_fields(kind) if field.required}
    if required:
        assert required <= set(await problems(world, {"type": kind.type, "topics": "*"}))


@every_type
async def test_one_missing_required_field_is_named_alone(kind: DestinationType, world: World) -> None:
    for where, field in all_fields(kind):
        if field.required:
            body = body_of(kind)
            body[where] = {key: value for key, value in body[where].items() if key != field.key}
            assert await problems(world, body) == [f"{where}.{field.key} is required"]


@every_type
async def test_unknown_keys_are_refused(kind: DestinationType, world: World) -> None:
    for where in ("config", "credentials"):
        body = body_of(kind)
        body[where] = {**body[where], "no_such_field": "x"}
        assert f"{where}.no_such_field is not a field of this destination type" in await problems(world, body)


@every_type
async def test_every_fields_own_rules_hold(kind: DestinationType, world: World) -> None:
    for where, field in all_fields(kind):
        for wrong in _breaking(field):
            body = body_of(kind)
            body[where] = {**body[where], field.key: wrong}
            found = await problems(world, body)
            assert any(problem.startswith(f"{where}.{field.key} ") for problem in found), (field.key, found)


def _breaking(field: Field) -> list[str]:
    """Values that break a rule that the field states."""
    wrong = []
    if field.type in {"checkbox", "select"}:
        wrong.append("neither-of-them")
    if field.maxlength is not None:
        wrong.append("x" * (field.maxlength + 1))
    if field.minlength is not None and field.minlength > 1:
        wrong.append("x" * (field.minlength - 1))
    if field.pattern is not None and not re.fullmatch(field.pattern, "\x01 \x01"):
        wrong.append("\x01 \x01")
    return wrong


@every_type
async def test_saving_asks_nobody(kind: DestinationType, world: World, no_network: list[str]) -> None:
    saved = await world.manager.create("acme", body_of(kind), by=OPERATOR)
    await world.manager.update("acme", saved.id, {"config": sample(kind).config}, by=OPERATOR)
    found = kind.check(sample(kind).config, saved.credentials, _offline_tools())
    assert found == []


def _offline_tools() -> Tools:
    guard = AddressGuard()
    resolver = GuardedResolver(_Nowhere(), guard)
    return Tools(http=HttpClient(HttpSettings(), resolver, guard), guard=guard, resolver=resolver, options={})


@every_type
async def test_addresses_of_this_machine_are_refused_where_a_host_can_be_named(
    kind: DestinationType, world: World
) -> None:
    """Fields that hold a host or a URL: 127.0.0.1 in its place is refused at once."""
    for where, field in all_fields(kind):
        shown = sample(kind).config.get(field.key) or field.placeholder or ""
        local = re.sub(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\.(com|net|example)\b", "127.0.0.1", shown)
        if where != "config" or local == shown or field.sensitive or shown.startswith("com."):
            continue
        if field.problem(field.key, local) is not None:
            continue
        body = body_of(kind)
        body["config"] = {**body["config"], field.key: local}
        found = await problems(world, body)
        assert any("127.0.0.1" in problem or "loopback" in problem for problem in found), (field.key, local, found)


# secrets


@every_type
async def test_secrets_are_masked_in_every_answer(kind: DestinationType, world: World) -> None:
    values = sample(kind)
    created = await world.admin.post("/tenants/acme/destinations", json=body_of(kind, id="one"))
    assert created.status_code == 201, created.text
    answers = [
        created,
        await world.acme.get("/tenants/acme/destinations/one"),
        await world.acme.get("/tenants/acme/destinations"),
        await world.acme.patch("/tenants/acme/destinations/one", json={"topics": ["a"]}),
        await world.acme.put("/tenants/acme/destinations/one/disable"),
    ]
    for answer in answers:
        assert answer.status_code < 300
        no_secret_in(answer.text, kind, values)
    shown = answers[1].json()
    for where, field in all_fields(kind):
        stored = getattr(values, where).get(field.key)
        if field.sensitive and stored is not None:
            assert shown[where][field.key] == fields.redact([field], {field.key: stored})[field.key]
            assert MASK * 4 in shown[where][field.key]


@every_type
async def test_a_masked_secret_sent_back_changes_nothing(kind: DestinationType, world: World) -> None:
    await world.admin.post("/tenants/acme/destinations", json=body_of(kind, id="one"))
    before = await world.manager.destination("acme", "one")
    shown = (await world.admin.get("/tenants/acme/destinations/one")).json()
    changed = {"config": shown["config"], "credentials": shown["credentials"]}
    answer = await world.admin.patch("/tenants/acme/destinations/one", json=changed)
    assert answer.status_code == 200, answer.text
    after = await world.manager.destination("acme", "one")
    assert (after.config, after.credentials) == (before.config, before.credentials)


@every_type
async def test_a_refused_secret_is_not_repeated(kind: DestinationType, world: World) -> None:
    for where, field in all_fields(kind):
        if not field.sensitive:
            continue
        for wrong in ("Sup3r-s3cret \x01 value", "Sup3r-s3cret-" + "x" * 200_000, '{"private_key": "Sup3r-s3cret"}'):
            body = body_of(kind)
            body[where] = {**body[where], field.key: wrong}
            answer = await world.acme.post("/tenants/acme/destinations", json=body)
            if answer.status_code != 201:
                assert "Sup3r-s3cret" not in answer.text, field.key


@every_type
def test_the_target_names_it_and_tells_no_secret(kind: DestinationType) -> None:
    values = sample(kind)
    target, link = kind.target(destination_of(kind, values))
    assert target
    assert link is None or link.startswith(("https://", "http://"))
    no_secret_in(f"{target} {link}", kind, values)


@every_type
def test_the_target_of_a_deleted_one_needs_no_secrets(kind: DestinationType) -> None:
    assert kind.target(structs.replace(destination_of(kind, sample(kind)), credentials={}))[0]


# connections


async def opened(kind: DestinationType, destination: Destination, tools: Tools) -> Connection | None:
    """A connection; None where the type connects at once and finds nobody."""
    try:
        return await kind.connect(destination, tools)
    except DeliveryError:
        return None


def prepared(kind: DestinationType) -> Destination:
    """The sample as it would be stored."""
    values = sample(kind)
    change = Change(
        old=None, config=values.config, credentials=values.credentials, by_tenant=False, now=NOON, options={}
    )
    return destination_of(kind, Sample(*kind.prepare(change)))


@every_type
async def test_without_a_network_the_failure_is_named_and_tells_no_secret(kind: DestinationType, tools: Tools) -> None:
    destination = prepared(kind)
    values = Sample(destination.config, destination.credentials)
    for verb in ("send", "verify"):
        async with asyncio.timeout(30):
            with pytest.raises(DeliveryError) as info:
                await _use(kind, destination, tools, verb)
        error = info.value
        assert re.fullmatch(r"[a-z_]+", error.code), error.code
        assert error.retryable, error.sentence
        if verb == "send" and type(kind).__module__.startswith("waypost.destinations."):
            assert error.request, "what was to be sent is not on record"
        no_secret_in(f"{error.sentence} {error!r} {error.response} {error.request}", kind, values)


async def _use(kind: DestinationType, destination: Destination, tools: Tools, verb: str) -> None:
    connection = await kind.connect(destination, tools)
    try:
        await (connection.send(message()) if verb == "send" else connection.verify())
    finally:
        await connection.close()


@every_type
async def test_closing_is_idempotent(kind: DestinationType, tools: Tools) -> None:
    destination = prepared(kind)
    for used in (False, True):
        connection = await opened(kind, destination, tools)
        if connection is None:
            continue
        if used:
            with pytest.raises(DeliveryError):
                await connection.send(message())
        for _ in range(3):
            await connection.close()


@every_type
async def test_a_cancelled_send_can_be_followed_by_another(kind: DestinationType, tools: Tools) -> None:
    connection = await opened(kind, prepared(kind), tools)
    if connection is None:
        return
    sending = asyncio.create_task(connection.send(message()))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises((asyncio.CancelledError, DeliveryError)):
        await sending
    with pytest.raises(DeliveryError):
        await connection.send(message())
    await connection.close()


@every_type
async def test_many_failures_at_once_are_each_told(kind: DestinationType, tools: Tools) -> None:
    connection = await opened(kind, prepared(kind), tools)
    if connection is None:
        return
    sending = (connection.send(message(event_id=f"e{n}")) for n in range(20))
    came = await asyncio.gather(*sending, return_exceptions=True)
    assert all(isinstance(one, DeliveryError) for one in came), came
    await connection.close()


# optional libraries


def extras() -> dict[str, set[str]]:
    """The top-level modules of each extra's own requirements, as pyproject.toml names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = {Requirement(line).name.lower() for line in project["dependencies"]}
    modules: dict[str, set[str]] = {}
    for name, found in importlib.metadata.packages_distributions().items():
        for distribution in found:
            modules.setdefault(distribution.lower().replace("_", "-"), set()).add(name)
    return {
        extra: {
            module
            for line in lines
            if (name := Requirement(line).name.lower().replace("_", "-")) not in always
            for module in modules.get(name, ())
        }
        for extra, lines in project.get("optional-dependencies", {}).items()
    }


def is_built_in(kind: DestinationType) -> bool:
    return type(kind).__module__.startswith("waypost.")


def take_away(modules: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules impossible to import, and forget those of Waypost's own that have imported them."""
    loaded = dict(sys.modules)
    for name in {*modules, *(name for name in loaded if name.partition(".")[0] in modules)}:
        monkeypatch.setitem(sys.modules, name, None)
    for name, module in loaded.items():
        if name.startswith("waypost.") and not modules.isdisjoint(_tops_of(module)):
            monkeypatch.delitem(sys.modules, name)


def _tops_of(module: Any) -> set[str]:
    """The top-level packages that a module's names come from."""
    origins = (getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(module).values())
    return {str(origin).partition(".")[0] for origin in origins}


@every_type
async def test_without_its_library_the_extra_is_named(
    kind: DestinationType, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.extra is None or not is_built_in(kind):
        return
    modules = extras().get(kind.extra)
    assert modules, f"pyproject.toml has no extra {kind.extra}, or it is not installed"
    take_away(modules, monkeypatch)
    destination = prepared(kind)
    if proofs()[kind.type].get("needs_extra") == "sometimes":
        with pytest.raises(DeliveryError):
            await _use(kind, destination, tools, "send")
        return
    with pytest.raises(MissingExtra) as info:
        await _use(kind, destination, tools, "send")
    assert info.value.extra == kind.extra
    assert f"waypost[{kind.extra}]" in str(info.value)


def test_finding_the_types_imports_no_optional_library() -> None:
    optional = sorted(set().union(*extras().values()))
    script = f"""
        import sys
        from waypost.connect.registry import Registry
        assert len(Registry.discover()) >= {len(TYPES)}
        print([name for name in {optional!r} if name in sys.modules])
    """
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout.strip() == "[]"


# what is derived from a type


@every_type
async def test_the_types_forms_and_shapes_are_in_the_api(kind: DestinationType, world: World) -> None:
    listed = {one["type"]: one for one in (await world.acme.get("/destination-types")).json()}
    assert listed[kind.type] == msgspec.json.decode(msgspec.json.encode(kind.describe()))
    document = (await world.nobody.http.get("/openapi.json")).json()
    suffix = "".join(part.capitalize() for part in kind.type.split("_"))
    create = document["components"]["schemas"][f"DestinationCreate{suffix}"]
    for where, described in (("config", kind.config_fields), ("credentials", kind.credential_fields)):
        shape = create["properties"][where]
        assert set(shape["properties"]) == {field.key for field in described}
        assert set(shape.get("required", [])) == {field.key for field in described if field.required}
    mapping = document["components"]["schemas"]["DestinationCreate"]["discriminator"]["mapping"]
    assert mapping[kind.type] == f"#/components/schemas/DestinationCreate{suffix}"


@every_type
def test_it_is_said_what_it_is_tested_against(kind: DestinationType) -> None:
    if is_built_in(kind):
        proof = proofs()[kind.type]
        assert all(proof[name].strip() for name in ("server", "proves", "open"))
        assert (ROOT / "tests" / "destinations" / f"test_{kind.type}.py").exists()


def test_nothing_is_said_of_types_that_are_not_there() -> None:
    assert set(proofs()) <= set(TYPES)


# a type of somebody else's

COURIER = """
from waypost.connect.connector import DestinationType
from waypost.connect.fields import Field
from waypost.core.errors import DeliveryError


class Courier(DestinationType):
    type = "bike_courier"
    label = "Bike courier"
    description = "Send events by bicycle."
    icon = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="6" cy="16" r="4"/></svg>'
    instructions = "Ask the courier for an account, and enter its number and the pass phrase here. " * 3
    config_fields = (
        Field(key="account", label="Account", description="Its number.", required=True, placeholder="12345"),
    )
    credential_fields = (
        Field(key="pass_phrase", label="Pass phrase", description="Said at the door.", required=True, sensitive=True),
    )

    def target(self, destination):
        return destination.config["account"], None

    async def connect(self, destination, tools):
        return Ride(destination, tools)


class Ride:
    def __init__(self, destination, tools):
        self._tools = tools

    async def send(self, message):
        await self._tools.resolver.addresses("courier.example", 443)

    async def verify(self):
        await self._tools.resolver.addresses("courier.example", 443)

    async def close(self):
        pass
"""


@pytest.fixture
def courier_package(tmp_path: Path) -> Path:
    """An installed distribution of somebody else's, as a package manager leaves it."""
    site = tmp_path / "site"
    info = site / "waypost_bike_courier-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "waypost_bike_courier.py").write_text(COURIER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waypost-bike-courier\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[waypost.destinations]\nbike_courier = waypost_bike_courier:Courier\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("waypost_bike_courier.py,,\nwaypost_bike_courier-1.0.dist-info/METADATA,,\n")
    return site


@pytest.fixture
def courier(courier_package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.syspath_prepend(str(courier_package))
    yield Registry.discover()
    sys.modules.pop("waypost_bike_courier", None)


async def test_a_third_partys_type_is_in_the_api_and_its_secrets_are_masked(courier: Registry, tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    world = World(store, types=courier)
    await world.populate()
    listed = [one["type"] for one in (await world.acme.get("/destination-types")).json()]
    assert listed == sorted([*TYPES, "bike_courier"], key=lambda name: (name != "webhook", name))
    form = (await world.acme.get("/destination-types/bike_courier")).json()
    assert [field["key"] for field in form["config_fields"]] == ["account"]
    assert form["credential_fields"][0]["sensitive"] is True
    body = {"type": "bike_courier", "topics": "*", "config": {"account": "7"}}
    refused = await world.acme.post("/tenants/acme/destinations", json=body)
    assert refused.json()["data"] == ["credentials.pass_phrase is required"]
    body["credentials"] = {"pass_phrase": "open sesame, please"}
    created = await world.acme.post("/tenants/acme/destinations", json=body)
    assert created.status_code == 201
    assert created.json()["credentials"] == {"pass_phrase": "open********"}
    assert created.json()["target"] == "7"
    document = (await world.nobody.http.get("/openapi.json")).json()
    assert "DestinationCreateBikeCourier" in document["components"]["schemas"]
    await store.close()


def test_a_third_partys_type_gets_its_page_in_the_docs(courier_package: Path, tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(ROOT / "scripts")!r})
        import generate_type_docs as docs, pathlib
        docs.ROOT = pathlib.Path({str(tmp_path)!r})
        assert docs.main(["--check"]) == 1
        docs.main([])
        assert docs.main(["--check"]) == 0
    """
    environment = {**os.environ, "PYTHONPATH": str(courier_package)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=True, timeout=60)
    page = (tmp_path / "docs" / "destinations" / "bike_courier.md").read_text()
    assert page.startswith("# Bike courier\n\nSend events by bicycle.\n")
    assert "| `pass_phrase` | Pass phrase | Said at the door. **Required.** Secret: masked in every answer. |" in page
    assert "`bike_courier`" in (tmp_path / "docs" / "destinations" / "README.md").read_text()


@pytest.mark.slow
def test_a_third_partys_type_is_under_this_suite_without_a_change_to_it(courier_package: Path) -> None:
    path = os.pathsep.join((str(courier_package), str(ROOT)))
    argv = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", __file__, "-k", "bike_courier"]
    run = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20


def test_the_pages_in_the_docs_are_up_to_date() -> None:
    script = ROOT / "scripts" / "generate_type_docs.py"
    checked = subprocess.run([sys.executable, str(script), "--check"], check=False, timeout=60)
    assert checked.returncode == 0, "run python scripts/generate_type_docs.py"


def test_examples_of_the_docs_are_json_that_names_the_required_fields() -> None:
    for name, kind in TYPES.items():
        page = (ROOT / "docs" / "destinations" / f"{name}.md").read_text(encoding="utf-8")
        found = re.search(r"```http\nPOST [^\n]+\n\n(.*?)\n```", page, re.DOTALL)
        assert found is not None
        example = json.loads(found[1])
        for where, field in all_fields(kind):
            assert field.required == (field.key in example.get(where, {})), (name, field.key)
