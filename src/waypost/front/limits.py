"""What may come in at one time, how large it may be and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_KIB = 1 << 10
_MIB = 1 << 20


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds, `body_rate` in bytes a second.

    `bodies` has the paths whose requests may be larger (or must be smaller) than `body_bytes`.
    """

    head_bytes: int = 64 * _KIB
    line_bytes: int = 16 * _KIB
    headers: int = 100
    head_timeout: float = 15.0
    body_bytes: int = _MIB
    bodies: Mapping[bytes, int] = {}
    body_rate: float = _KIB
    body_grace: float = 5.0
    memory: int = 64 * _MIB
    memory_per_address: int = 32 * _MIB
    pipelined: int = 16
    answer_timeout: float = 30.0
    answer_memory: int = 128 * _MIB
    idle_timeout: float = 75.0
    connections: int = 4_096
    connections_per_address: int = 256

    def body_limit(self, path: bytes) -> int:
        return self.bodies.get(path, self.body_bytes)

    @property
    def tick(self) -> float:
        """How often deadlines are looked at."""
        shortest = min(self.head_timeout, self.body_grace, self.answer_timeout, self.idle_timeout)
        return min(1.0, max(0.02, shortest / 4))
