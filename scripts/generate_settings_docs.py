"""Writes docs/settings.md from the settings themselves: `python scripts/generate_settings_docs.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from waypost.settings import PREFIX, Settings

TARGET = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """\
# Settings

Every setting is an environment variable `WAYPOST_<NAME>`, or a line `<name> = ...` in one TOML file: `waypost.toml` in
the working directory, or the file that `WAYPOST_CONFIG` names. Command-line options win over the environment, the
environment over the file, the file over the defaults. `WAYPOST_<NAME>_FILE` reads a value from a file, for secrets.
Lists are comma-separated or JSON arrays in the environment and arrays in TOML. Durations are seconds, sizes bytes.

`waypost config` shows what is in effect as a TOML file that means the same; of secrets only whether they are set. A
setting that is wrong, is given twice or does not exist stops the start with a sentence that names it.

| Setting | Default | What it does |
|---|---|---|
"""


def document() -> str:
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_shown(field.get_default())} | {(field.description or '').replace('|', '/')} |"
        for name, field in Settings.model_fields.items()
    )
    return HEAD + "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if value is None or value in ((), {}):
        return ""
    text = msgspec.json.encode(value).decode().strip('"')
    return f"`{text}`"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
