"""The client against a real HTTP server that answers as Waypost's API is described to."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from waypost.cli import client as client_module
from waypost.cli.client import Client, Published, ServerFailed, ServerUnreachable, connect, read_data, read_metadata
from waypost.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    SettingsError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from waypost.settings import load

NOTHING = io.BytesIO()


class Script:
    """What the server answers, route by route, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    def answer(self, route: str, status: int, body: Any) -> None:
        self.answers[route] = (status, body)

    def routes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.requests]


@pytest.fixture
def server() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.requests.append((self.command, self.path, headers, body))
            status, answer = script.answers.get(
                f"{self.command} {self.path}", (404, {"status": 404, "message": "not found"})
            )
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815  the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        script.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: Script) -> Client:
    return Client(server.url, "key-1")


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings of the developer's own: an empty directory, no variables."""
    for name in [name for name in os.environ if name.startswith("WAYPOST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestPublishing:
    def test_sends_what_was_given_and_returns_the_answer(self, server: Script, client: Client) -> None:
        server.answer("POST /api/v1/publish", 202, {"id": "e1", "duplicate": False, "destination_ids": ["d1", "d2"]})

        published = client.publish(
            tenant="acme", topic="order.created", data=b'{"id":1}', event_id="e1", metadata={"source": "crm"}
        )

        assert published == Published("e1", False, ("d1", "d2"))
        _, _, headers, body = server.requests[0]
        assert headers["authorization"] == "Bearer key-1"
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "id": "e1",
            "tenant_id": "acme",
            "topic": "order.created",
            "metadata": {"source": "crm"},
            "data": {"id": 1},
        }

    def test_leaves_out_what_was_not_given(self, server: Script, client: Client) -> None:
        server.answer("POST /api/v1/publish", 202, {"id": "evt_1", "duplicate": True, "destination_ids": []})

        assert client.publish(tenant="acme", data=b"{}").duplicate is True

        assert json.loads(server.requests[0][3]) == {"tenant_id": "acme", "data": {}}

    def test_keeps_key_order_and_the_text_of_numbers(self, server: Script, client: Client) -> None:
        server.answer("POST /api/v1/publish", 202, {"id": "e", "duplicate": False, "destination_ids": []})
        data = b'{"z": 1.10, "a": 12345678901234567890123, "e": 1E+2}'

        client.publish(tenant="acme", data=data)

        assert data in server.requests[0][3]

    def test_new_fields_in_the_answer_do_no_harm(self, server: Script, client: Client) -> None:
        answer = {"id": "e", "duplicate": False, "destination_ids": [], "added_later": 1}
        server.answer("POST /api/v1/publish", 202, answer)

        assert client.publish(tenant="acme", data=b"{}").id == "e"

    def test_the_command_reads_its_options(self, server: Script) -> None:
        server.answer("POST /api/v1/publish", 202, {"id": "e9", "duplicate": False, "destination_ids": ["d"]})

        published = client_module.publish(
            tenant="acme",
            data="-",
            stdin=io.BytesIO(b'{"from": "stdin"}\n'),
            topic="t",
            event_id="e9",
            metadata=["k=v", "equation=a=b"],
            server=server.url,
            api_key="key-2",
        )

        assert published.destination_ids == ("d",)
        _, _, headers, body = server.requests[0]
        assert headers["authorization"] == "Bearer key-2"
        assert json.loads(body)["data"] == {"from": "stdin"}
        assert json.loads(body)["metadata"] == {"k": "v", "equation": "a=b"}


class TestTenantsAndDestinations:
    def test_a_tenant_that_exists_is_left_alone(self, server: Script, client: Client) -> None:
        server.answer("GET /api/v1/tenants/acme", 200, {"id": "acme"})

        assert client.ensure_tenant("acme") is False
        assert server.routes() == ["GET /api/v1/tenants/acme"]

    def test_a_missing_tenant_is_created(self, server: Script, client: Client) -> None:
        server.answer("PUT /api/v1/tenants/acme", 201, {"id": "acme"})

        assert client.ensure_tenant("acme") is True
        assert server.routes() == ["GET /api/v1/tenants/acme", "PUT /api/v1/tenants/acme"]

    def test_ids_are_quoted_in_paths(self, server: Script, client: Client) -> None:
        server.answer("DELETE /api/v1/tenants/a%2Fb%3F/destinations/d%20%231", 200, {"success": True})

        client.delete_destination("a/b?", "d #1")

    @pytest.mark.parametrize(("topics", "sent"), [(["*"], "*"), (["a.*", "b"], ["a.*", "b"])])
    def test_creates_a_webhook(self, server: Script, client: Client, topics: list[str], sent: Any) -> None:
        server.answer("POST /api/v1/tenants/acme/destinations", 201, {"id": "d1", "credentials": {"secret": "whsec_x"}})

        created = client.add_webhook("acme", "http://127.0.0.1:4000/", topics)

        assert created["credentials"]["secret"] == "whsec_x"
        assert json.loads(server.requests[0][3]) == {
            "type": "webhook",
            "topics": sent,
            "config": {"url": "http://127.0.0.1:4000/"},
        }

    def test_lists_attempts(self, server: Script, client: Client) -> None:
        server.answer("GET /api/v1/attempts?event_id=a+b&limit=5", 200, {"models": [{"id": "att_1"}], "pagination": {}})

        assert client.attempts(event_id="a b", limit=5) == [{"id": "att_1"}]


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, BadRequest),
            (401, Unauthorized),
            (403, Forbidden),
            (404, NotFound),
            (405, Refused),
            (409, Conflict),
            (413, TooLarge),
            (422, Invalid),
            (429, Refused),
            (500, ServerFailed),
            (502, ServerFailed),
            (503, Unavailable),
        ],
    )
    def test_a_status_has_its_exception(
        self, server: Script, client: Client, status: int, kind: type[Exception]
    ) -> None:
        server.answer("GET /api/v1/x", status, {"status": status, "message": "the sentence"})

        with pytest.raises(kind, match="the sentence") as caught:
            client.request("GET", "/x")

        assert type(caught.value) is kind

    def test_fields_at_fault_are_named(self, server: Script, client: Client) -> None:
        answer = {
            "status": 422,
            "message": "validation error",
            "data": ["config.url is required", "topics is required"],
        }
        server.answer("GET /api/v1/x", 422, answer)

        with pytest.raises(Invalid, match=r"^validation error: config\.url is required; topics is required$"):
            client.request("GET", "/x")

    def test_query_parameters_at_fault_are_named(self, server: Script, client: Client) -> None:
        answer = {"status": 422, "message": "validation error", "data": {"query.dir": "must be 'asc' or 'desc'"}}
        server.answer("GET /api/v1/x", 422, answer)

        with pytest.raises(Invalid, match=r"validation error: query\.dir must be 'asc' or 'desc'"):
            client.request("GET", "/x")

    def test_a_wrong_key_is_called_that(self, server: Script, client: Client) -> None:
        server.answer("GET /api/v1/x", 401, {"status": 401, "message": "unauthorized"})

        with pytest.raises(Unauthorized, match="does not know this admin key"):
            client.request("GET", "/x")

    def test_no_server_says_what_to_start(self) -> None:
        nobody = Client("http://127.0.0.1:1", "key")

        with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:1 .*refused.*`waypost serve`"):
            nobody.request("GET", "/tenants")

    def test_another_program_at_the_address_is_noticed(self, server: Script, client: Client) -> None:
        server.answer("GET /api/v1/x", 200, b"<html>hello</html>")

        with pytest.raises(ServerUnreachable, match="does not answer as Waypost does"):
            client.request("GET", "/x")

    def test_an_answer_of_an_unexpected_form_is_still_an_error(self, server: Script, client: Client) -> None:
        server.answer("GET /api/v1/x", 400, ["odd"])

        with pytest.raises(BadRequest, match="odd"):
            client.request("GET", "/x")

    def test_the_key_is_never_in_an_error(self, server: Script) -> None:
        with pytest.raises(NotFound) as caught:
            Client(server.url, "very-secret").request("GET", "/x")

        assert "very-secret" not in repr(caught.value)

    @pytest.mark.parametrize("key", ["two\nlines", "caf\u00e9", "nul\0"])
    def test_a_key_that_no_header_can_carry_is_refused(self, key: str) -> None:
        with pytest.raises(BadRequest, match="admin key"):
            Client("http://127.0.0.1:3333", key)

    @pytest.mark.parametrize(
        "address", ["localhost:3333", "127.0.0.1", "ftp://h", "http://", "http://h:x", "http://[::1", ""]
    )
    def test_a_server_that_is_no_url_is_refused(self, address: str) -> None:
        with pytest.raises(BadRequest, match="server must be a URL"):
            Client(address, "key")

    def test_a_path_in_front_of_the_api_is_kept(self, server: Script) -> None:
        server.answer("GET /events/api/v1/x", 200, {"ok": True})

        assert Client(f"{server.url}/events/", "key").request("GET", "/x") == {"ok": True}


class TestWhichServerAndKey:
    """`connect` looks at its arguments, then the environment, then what `waypost serve` left on this machine."""

    @staticmethod
    def key_used(server: Script, client: Client) -> str:
        server.answer("GET /api/v1/x", 200, {})
        client.request("GET", "/x")
        return server.requests[-1][2]["authorization"].removeprefix("Bearer ")

    def test_the_argument_wins(self, server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYPOST_API_KEY", "from-environment")

        assert self.key_used(server, connect(server.url, "given")) == "given"

    def test_then_the_environment(self, server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYPOST_API_KEY", "from-environment")
        client_module.save_admin_key(load(), "from-disk")

        assert self.key_used(server, connect(server.url)) == "from-environment"

    def test_also_from_a_secret_file(self, server: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("from-file\n")
        monkeypatch.setenv("WAYPOST_API_KEY_FILE", str(tmp_path / "key"))

        assert self.key_used(server, connect(server.url)) == "from-file"

    def test_then_the_key_that_serve_saved(
        self, server: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        monkeypatch.setenv("WAYPOST_DATABASE_URL", f"sqlite:///{tmp_path}/data/waypost.db")
        path = client_module.save_admin_key(load(), "from-disk")

        assert path == tmp_path / "data" / "waypost.admin-key"
        assert self.key_used(server, connect(server.url)) == "from-disk"

    def test_the_saved_key_is_for_its_owner_alone_and_replaced_whole(self) -> None:
        path = client_module.save_admin_key(load(), "the-first-and-longer-key")
        path.chmod(0o644)
        client_module.save_admin_key(load(), "second")

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() == "second\n"

    def test_the_saved_key_is_not_written_through_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_text("untouched")
        (tmp_path / "waypost.admin-key").symlink_to(tmp_path / "elsewhere")
        client_module.save_admin_key(load(), "key")

        assert (tmp_path / "elsewhere").read_text() == "untouched"

    @pytest.mark.parametrize(
        "address", ["http://203.0.113.9:3333", "https://waypost.example.com", "http://localhost.example.com"]
    )
    def test_the_saved_key_never_leaves_this_machine(self, address: str) -> None:
        client_module.save_admin_key(load(), "from-disk")

        with pytest.raises(BadRequest, match="an admin key is needed"):
            connect(address)

    @pytest.mark.parametrize("address", ["http://localhost:3333", "http://127.9.9.9", "http://[::1]:3333"])
    def test_this_machine_has_several_names(self, address: str) -> None:
        client_module.save_admin_key(load(), "from-disk")

        assert connect(address).server == address

    def test_without_any_key_it_says_where_one_comes_from(self) -> None:
        with pytest.raises(BadRequest, match=r"--api-key, set WAYPOST_API_KEY or run this where .*waypost\.admin-key"):
            connect()

    def test_an_unreadable_saved_key_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "waypost.admin-key").write_bytes(b"\xff\xfe")

        with pytest.raises(BadRequest, match=r"waypost\.admin-key"):
            connect()

    @pytest.mark.parametrize(
        ("host", "port", "address"),
        [
            ("127.0.0.1", "4444", "http://127.0.0.1:4444"),
            ("0.0.0.0", "3333", "http://127.0.0.1:3333"),
            ("::", "3333", "http://[::1]:3333"),
            ("::1", "3333", "http://[::1]:3333"),
        ],
    )
    def test_the_server_is_where_the_settings_have_it_listen(
        self, monkeypatch: pytest.MonkeyPatch, host: str, port: str, address: str
    ) -> None:
        monkeypatch.setenv("WAYPOST_HOST", host)
        monkeypatch.setenv("WAYPOST_PORT", port)

        assert connect(api_key="k").server == address

    def test_the_environment_may_name_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYPOST_URL", "https://waypost.example.com")

        assert connect(api_key="k").server == "https://waypost.example.com"

    def test_a_wrong_setting_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYPOST_PORT", "many")

        with pytest.raises(SettingsError, match="WAYPOST_PORT"):
            connect(api_key="k")


class TestData:
    def test_json_itself(self) -> None:
        assert read_data(' {"a": 1} ', NOTHING) == b'{"a": 1}'

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "event.json").write_text('{"a": "\u00e9"}\n')

        assert read_data(f"@{tmp_path}/event.json", NOTHING) == '{"a": "\u00e9"}'.encode()

    def test_standard_input(self) -> None:
        assert read_data("-", io.BytesIO(b'{"a": 1}')) == b'{"a": 1}'

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(BadRequest, match=r"data: cannot read nowhere\.json: No such file"):
            read_data("@nowhere.json", NOTHING)

    @pytest.mark.parametrize("data", ["", "{", "{'a': 1}", "{} {}"])
    def test_what_is_not_json_is_refused(self, data: str) -> None:
        with pytest.raises(BadRequest, match="data is not JSON"):
            read_data(data, NOTHING)

    def test_bytes_that_are_no_text_are_refused(self) -> None:
        with pytest.raises(BadRequest, match="data is not JSON"):
            read_data("-", io.BytesIO(b'{"a": "\xff"}'))

    @pytest.mark.parametrize("data", ["[]", "1", '"text"', "null", "true"])
    def test_what_is_no_object_is_refused(self, data: str) -> None:
        with pytest.raises(BadRequest, match="data must be a JSON object"):
            read_data(data, NOTHING)


class TestMetadata:
    def test_pairs(self) -> None:
        assert read_metadata(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}

    @pytest.mark.parametrize("pair", ["a", "=b", ""])
    def test_what_is_no_pair_is_refused(self, pair: str) -> None:
        with pytest.raises(BadRequest, match="metadata must be key=value"):
            read_metadata([pair])
