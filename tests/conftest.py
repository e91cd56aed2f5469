"""The fixtures of the real servers in tests/servers are there for every test."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import settings

# How long one example takes says something about the machine and nothing about the code.
settings.register_profile("waypost", deadline=None)
settings.register_profile("quick", settings.get_profile("waypost"), max_examples=15)  # of the inner loop
settings.load_profile("waypost")

_SERVERS = Path(__file__).with_name("servers")


def pytest_configure(config: pytest.Config) -> None:
    """Register the servers' modules by hand: `pytest_plugins` warns of those that import one another."""
    for module in sorted(_SERVERS.glob("[!_]*.py")):
        name = f"tests.servers.{module.stem}"
        config.pluginmanager.register(importlib.import_module(name), name)
