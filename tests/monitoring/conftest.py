from __future__ import annotations

from tests.process.conftest import http, sink

__all__ = ["http", "sink"]
