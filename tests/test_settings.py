from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from waypost.core.errors import SettingsError
from waypost.settings import Settings, effective, load

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
    assert "secret" not in str(effective(settings).values())
    assert effective(settings)["encryption_old_keys"] == ["********", "********"]


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
    ],
)
def test_a_wrong_setting_is_a_sentence(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert sentence in str(caught.value)


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
