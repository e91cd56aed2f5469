"""`waypost vacuum`: the file shrinks to what is in it, and never under a running server."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tests.store.builders import NOW, event, publication
from tests.store.conftest import sqlite_store
from waypost.cli.main import app
from waypost.core.errors import SettingsError
from waypost.core.retention import Kept


def vacuum(folder: Path) -> tuple[int, str]:
    came = CliRunner().invoke(app, ["vacuum", "--database-url", f"sqlite:///{folder}/waypost.db"])
    refusal = came.exception if isinstance(came.exception, SettingsError) else None
    return came.exit_code, str(refusal) if refusal else came.output


async def test_the_file_shrinks_to_what_is_in_it(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    large = event(data=b'{"filler": "%s"}' % (b"x" * 1_000_000))
    kept = event()
    for each in (large, kept):
        await store.accept(publication(each))
    await store.retention.expire(Kept.EVENTS, [large.seq], now=NOW, budget=1.0)
    status, refusal = vacuum(tmp_path)
    assert (status, "another Waypost process is using" in refusal) == (1, True)
    await store.close()
    assert (tmp_path / "waypost.db").stat().st_size > 1_000_000
    status, output = vacuum(tmp_path)
    assert (status, "MB before" in output) == (0, True)
    assert (tmp_path / "waypost.db").stat().st_size < 1_000_000
    await store.open()
    found = await store.event(kept.id, tenant_id="acme")
    assert found is not None
    assert found.event == kept
    await store.close()


def test_no_database_is_a_sentence(tmp_path: Path) -> None:
    status, refusal = vacuum(tmp_path)
    assert status == 1
    assert refusal.endswith(f"there is no database at {tmp_path}/waypost.db")
