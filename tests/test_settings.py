from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from waypost.core.errors import SettingsError
from waypost.parts import api_key_of, jwt_secret_of, retry_policy_of, tools_of
from waypost.settings import Settings, load, shown

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 3333, "sqlite:///waypost.db")
    assert settings.sqlite_path == Path("waypost.db")
    assert settings.webhook_address_guard


def test_the_environment_speaks_csv_and_numbers() -> None:
    settings = load(
        {
            "WAYPOST_PORT": "8080",
            "WAYPOST_TOPICS": "user.created, order.created",
            "WAYPOST_RETRY_SCHEDULE": "1,2.5",
            "WAYPOST_WEBHOOK_ALLOWED_NETWORKS": "10.1.2.3/8,::1",
            "WAYPOST_WEBHOOK_HEADERS_RENAME": "topic=x-event,timestamp=x-at",
            "WAYPOST_DESTINATION_OPTIONS": '{"hookdeck_base_url": "http://127.0.0.1"}',
            "OTHER": "1",
            "WAYPOST_URL": "http://elsewhere",
            "WAYPOST_SERVICE_HOST": "set by an orchestrator",
            "WAYPOST_HOST": "",
        }
    )
    assert (settings.port, settings.host) == (8080, "127.0.0.1")
    assert settings.topics == ("user.created", "order.created")
    assert settings.retry_schedule == (1.0, 2.5)
    assert settings.webhook_allowed_networks == ("10.0.0.0/8", "::1/128")
    assert settings.webhook_headers_rename == {"topic": "x-event", "timestamp": "x-at"}
    assert settings.destination_options == {"hookdeck_base_url": "http://127.0.0.1"}


def test_the_file_is_below_the_environment_and_that_below_options(tmp_path: Path) -> None:
    (tmp_path / "waypost.toml").write_text(
        'port = 1\nhost = "0.0.0.0"\ntopics = ["a"]\nmax_destinations_per_tenant = 7'
    )
    settings = load({"WAYPOST_PORT": "2", "WAYPOST_HOST": "::1"}, port=3, host=None)
    assert (settings.port, settings.host) == (3, "::1")
    assert (settings.topics, settings.max_destinations_per_tenant) == (("a",), 7)


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-very-secret-key\n")
    settings = load({"WAYPOST_API_KEY_FILE": str(tmp_path / "key"), "WAYPOST_ENCRYPTION_OLD_KEYS": "one,two"})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "a-very-secret-key"
    assert [key.get_secret_value() for key in settings.encryption_old_keys] == ["one", "two"]
    lines = list(shown(settings))
    assert "a-very-secret-key" not in "".join(lines)
    assert {"# api_key is set, and secret", "# encryption_old_keys is set, and secret"} < set(lines)
    assert "# jwt_secret is not set" in lines


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WAYPOST_PORT": "tcp://10.0.0.1:3333"}, "port (WAYPOST_PORT): "),
        ({"WAYPOST_PORT": "70000"}, "less than or equal to 65535"),
        ({"WAYPOST_PROT": "1"}, "prot: there is no such setting (WAYPOST_PROT)"),
        ({"WAYPOST_TOPICS": "not a topic"}, "'not a topic' is not a topic name"),
        ({"WAYPOST_WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/99"}, "webhook_allowed_networks"),
        ({"WAYPOST_RETRY_SCHEDULE": "1,soon"}, "retry_schedule"),
        ({"WAYPOST_RETRY_SCHEDULE": "0"}, "retry_schedule"),
        ({"WAYPOST_RETRY_SCHEDULE": "inf"}, "retry_schedule"),
        ({"WAYPOST_RETRY_MAX_WAIT": "1e30"}, "retry_max_wait"),
        ({"WAYPOST_DELIVERY_LEASE": "10"}, "delivery_lease must be at least twice delivery_timeout"),
        ({"WAYPOST_WEBHOOK_TIMEOUT": "90"}, "webhook_timeout must not be longer than delivery_timeout"),
        ({"WAYPOST_WEBHOOK_MODE": "loud"}, "'standard' or 'default'"),
        ({"WAYPOST_WEBHOOK_HEADERS_RENAME": "topic"}, "pairs like topic=x-topic"),
        ({"WAYPOST_DESTINATION_OPTIONS": "{"}, "destination_options"),
        ({"WAYPOST_API_KEY_FILE": "/no/such/file"}, "cannot read /no/such/file"),
        ({"WAYPOST_CONFIG": "/no/such/file.toml"}, "cannot read /no/such/file.toml"),
        ({"WAYPOST_AUTO_DISABLE_CODES": '"410"'}, "leave the quotation marks out"),
        ({"WAYPOST_AUTO_DISABLE_CODES": "410;404"}, "'410;404' is not one of the codes such as 404, 4xx, timeout"),
        ({"WAYPOST_AUTO_DISABLE_CODES": '["410'}, "must be a JSON array or items separated by commas"),
        ({"WAYPOST_AUTO_DISABLE_CODES": "[410]"}, "auto_disable_codes"),
        ({"WAYPOST_RETRY_CODES": "40x"}, "'40x' is not one of"),
        ({"WAYPOST_NO_RETRY_CODES": "4xxx"}, "'4xxx' is not one of"),
        ({"WAYPOST_ALERT_FAILURE_STEPS": "90,50"}, "must grow"),
        ({"WAYPOST_ALERT_FAILURE_STEPS": "50,50"}, "must grow"),
        ({"WAYPOST_WEBHOOK_HEADERS_OMIT": "topic;timestamp"}, "'topic;timestamp' is not a name"),
        ({"WAYPOST_WEBHOOK_HEADERS_RENAME": '{"topic": 1}'}, "webhook_headers_rename"),
        ({"WAYPOST_DESTINATION_OPTIONS": "[]"}, "must be a JSON object"),
        ({"WAYPOST_PUBLIC_URL": "events.example.com"}, "must be a URL such as https://events.example.com"),
        ({"WAYPOST_HOST": "\udcff"}, "WAYPOST_HOST: is not UTF-8"),
        (
            {"WAYPOST_API_KEY": "one", "WAYPOST_API_KEY_FILE": "/dev/null"},
            "WAYPOST_API_KEY and WAYPOST_API_KEY_FILE are both set",
        ),
    ],
)
def test_a_wrong_setting_is_a_sentence(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert sentence in str(caught.value)


def test_codes_and_lists_may_be_written_in_several_ways() -> None:
    settings = load(
        {
            "WAYPOST_AUTO_DISABLE_CODES": '["410"]',
            "WAYPOST_RETRY_CODES": "4XX, timeout",
            "WAYPOST_RETRY_SCHEDULE": "[1, 2.5]",
            "WAYPOST_WEBHOOK_HEADERS_RENAME": '{"topic": "x-topic"}',
        }
    )
    assert settings.auto_disable_codes == ("410",)
    assert settings.retry_schedule == (1.0, 2.5)
    assert settings.webhook_headers_rename == {"topic": "x-topic"}
    assert retry_policy_of(settings).worth_a_retry("404", retryable=False)


def test_a_byte_order_mark_is_not_a_part_of_a_value(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfa-very-secret-key\r\n")
    (tmp_path / "waypost.toml").write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    settings = load({"WAYPOST_API_KEY_FILE": str(tmp_path / "key")})
    assert settings.api_key is not None
    assert (settings.api_key.get_secret_value(), settings.port) == ("a-very-secret-key", 1)


_NAMES = sorted(Settings.model_fields)
_LOOKS_RIGHT = (
    *("410", "4xx", "4XX", '["410"]', "410;404", "'410'", "50,90", "1", "0", "2.5", "1e3", "nan", "true", "off", "a=b"),
    *('{"a": 1}', '{"a": "b"}', "10.0.0.0/8", "https://a.example", "order.created", "::", "warn", "any", "\x7f"),
)


@given(name=st.sampled_from(_NAMES), value=st.sampled_from(_LOOKS_RIGHT) | st.text(max_size=20))
@settings_of_hypothesis(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_accepted_means_what_is_shown_of_it(tmp_path: Path, name: str, value: str) -> None:
    """Everything but secrets, read from the environment, shown, and read from a file."""
    accepted = None
    with contextlib.suppress(SettingsError):
        accepted = load({f"WAYPOST_{name.upper()}": value})
    if accepted is None:
        return
    file = tmp_path / "shown.toml"
    lines = list(shown(accepted))
    file.write_text("\n".join(lines), encoding="utf-8")
    read = load({"WAYPOST_CONFIG": str(file)})
    for field in _NAMES:
        if f"# {field} is set, and secret" not in lines:
            assert getattr(read, field) == getattr(accepted, field), field


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"WAYPOST_PORT": "x", "WAYPOST_RETRY_LIMIT": "-1"})
    assert len(str(caught.value).splitlines()) == 2


def test_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "waypost.toml").write_text("port = ")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load({})


@pytest.mark.parametrize("url", ["postgres://x", "sqlite:///", "waypost.db"])
def test_a_database_url_must_name_a_file(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///FILE"):
        _ = load({"WAYPOST_DATABASE_URL": url}).sqlite_path


def test_every_setting_says_what_it_does() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_settings_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts" / "generate_settings_docs.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == generate.document(), "run scripts/generate_settings_docs.py"


def test_denied_networks_and_the_proxy_reach_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_WEBHOOK_DENIED_NETWORKS", "8.8.8.0/24,2606:4700::/32")
    monkeypatch.setenv("WAYPOST_WEBHOOK_ALLOWED_NETWORKS", "0.0.0.0/0")
    monkeypatch.setenv("WAYPOST_WEBHOOK_PROXY_GUARDS", "true")
    tools = tools_of(load())
    assert [tools.guard.kind(address) is None for address in ("8.8.8.8", "2606:4700::1", "10.0.0.1")] == [
        False,
        False,
        True,
    ]
    assert tools.http.settings.proxy_guards


@pytest.mark.parametrize(
    ("name", "value"),
    [("api_key", "k"), ("api_key", "x" * 30), ("jwt_secret", "only-twenty-two-bytes!"), ("jwt_secret", "secret" * 9)],
)
def test_a_weak_secret_is_refused_with_a_way_out(name: str, value: str) -> None:
    settings = load({f"WAYPOST_{name.upper()}": value})
    with pytest.raises(SettingsError, match=f"WAYPOST_{name.upper()}.*openssl rand -base64 32"):
        (api_key_of if name == "api_key" else jwt_secret_of)(settings)
