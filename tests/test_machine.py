from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import structlog

from waypost import machine
from waypost.settings import load

_RAISE = """
import resource
from waypost.machine import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
print(raise_descriptor_limit() == min(hard, 1 << 20))
"""
_BURST = """
import sys
from waypost.machine import give_memory_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "yes":
    assert give_memory_back()
largest = b"x" * (8 << 20)
del largest  # frees of ever larger blocks are what lets glibc's own threshold creep up
bodies = [b"x" * (1 << 20) for _ in range(40)]
before = resident()
del bodies[::2]
print(before - resident())
"""


def _run(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert _run(_RAISE).strip() == "True"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_freed_bodies_leave_the_process() -> None:
    """Every second one of forty bodies of 1 MiB: what stays between them must not keep the rest."""
    assert int(_run(_BURST, "yes")) > 19 << 20
    assert int(_run(_BURST, "no")) < 10 << 20


def test_a_limit_that_the_settings_can_exhaust_is_said() -> None:
    settings = load({"WAYPOST_DELIVERY_CONCURRENCY": "3000"})
    needed = machine.descriptors_needed(settings)
    assert needed > 3_000
    with structlog.testing.capture_logs() as said:
        assert not machine.say_if_scarce(needed, settings)
        assert not machine.say_if_scarce(None, settings)
        assert machine.say_if_scarce(needed - 1, settings)
    assert [(line["event"], line["limit"], line["needed"]) for line in said] == [
        ("descriptor_limit_low", needed - 1, needed)
    ]
