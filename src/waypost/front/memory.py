"""How many bytes of bodies are being received, in all and for each address."""

from __future__ import annotations

from collections import Counter


class Memory:
    """Whoever holds nothing may always take one body, however large, while nobody holds anything."""

    def __init__(self, most: int, most_each: int) -> None:
        self.taken = 0
        self._most = most
        self._most_each = most_each
        self._by_owner: Counter[str] = Counter()

    def take(self, owner: str, size: int) -> bool:
        """Whether there is room for so many more bytes; then they are taken."""
        full = self.taken + size > self._most or self._by_owner[owner] + size > self._most_each
        if full and self.taken:
            return False
        self.taken += size
        self._by_owner[owner] += size
        return True

    def give(self, owner: str, size: int) -> None:
        self.taken -= size
        self._by_owner[owner] -= size
        if not self._by_owner[owner]:
            del self._by_owner[owner]
