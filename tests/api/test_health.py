"""Health and metrics."""

from __future__ import annotations

import sqlite3

import pytest

from waypost.core import times

from .kit import World, error


@pytest.mark.parametrize("path", ["/api/v1/healthz", "/healthz", "/api/v1/livez", "/livez"])
async def test_health_is_open_and_says_which_worker_failed(world: World, path: str) -> None:
    well = await world.nobody.http.get(path)
    assert well.status_code == 200
    assert times.parse(well.json()["timestamp"]) is not None
    assert well.json() | {"timestamp": ""} == {
        "status": "healthy",
        "timestamp": "",
        "workers": {"deliver": {"status": "healthy"}, "sweep": {"status": "healthy"}},
    }
    world.workers["sweep"] = False
    ill = await world.nobody.http.get(path)
    assert ill.status_code == 503
    assert (ill.json()["status"], ill.json()["workers"]["sweep"]) == ("failed", {"status": "failed"})


@pytest.mark.parametrize("path", ["/api/v1/readyz", "/readyz"])
async def test_readiness_is_that_the_store_can_be_written(world: World, path: str) -> None:
    ready = await world.nobody.http.get(path)
    assert ready.status_code == 200
    assert ready.json()["workers"]["store-writable"] == {"status": "healthy"}
    intruder = sqlite3.connect(world.store._db.path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    refused = await world.nobody.http.get(path)
    intruder.execute("ROLLBACK")
    intruder.close()
    assert refused.status_code == 503
    assert refused.json()["workers"]["store-writable"] == {"status": "failed"}
    world.workers["sweep"] = False
    assert (await world.nobody.http.get(path)).status_code == 503


async def test_metrics_are_served_unless_switched_off(world: World) -> None:
    answer = await world.nobody.http.get("/metrics")
    assert (answer.status_code, answer.content) == (200, b"waypost_up 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    silent = World(world.store, metrics=False)
    assert error(await silent.nobody.http.get("/metrics")) == (404, "not found", None)
