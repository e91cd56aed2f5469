"""`waypost demo`, as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from waypost.cli.demo import DemoFailed, demo

pytestmark = pytest.mark.slow


def test_shows_an_event_s_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_DATABASE_URL", "nonsense: the demonstration has settings of its own")
    said: list[str] = []

    demo(echo=said.append)

    text = "\n".join(said)
    assert "order.created" in text
    assert "attempt 1  verified" in text
    assert '"status": "success"' in text
    assert "curl -X POST http://127.0.0.1:3333/api/v1/publish" in text


def test_says_when_the_server_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(DemoFailed, match=r"the server ended at once \(code 1\)"):
        demo(echo=print)


def test_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    idler = tmp_path / "idler"
    idler.write_text("#!/bin/sh\nexec sleep 60\n")
    idler.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(idler))

    with pytest.raises(DemoFailed, match=r"the server did not answer within 0\.2 s"):
        demo(timeout=0.2, echo=print)
