"""Answers in the memory of this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cachetools import LRUCache

from lnmt.serving.cache.codec import pack, unpack
from lnmt.serving.cache.response import CacheEvent
from lnmt.types import Prediction

# What an entry takes beside its value: the key of 32 bytes, its places in the three tables of an
# LRUCache, and the number that says how large the value is.
ENTRY_BYTES = 400


class MemoryCache:
    """Keeps answers as bytes, so that nobody who got one can change it; the least recently used make room.

    `max_bytes` bounds what all entries take, keys and tables included. `count` is told what happens.
    """

    def __init__(self, max_bytes: int, count: Callable[[CacheEvent], None] = lambda event: None) -> None:
        self._count = count
        self._entries = _Entries(max_bytes, count)

    @property
    def used_bytes(self) -> int:
        """What the entries take, at most `max_bytes`."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes) -> Prediction | None:
        packed = self._entries.get(key)
        return None if packed is None else unpack(packed)

    async def put(self, key: bytes, value: Prediction) -> None:
        packed = pack(value)
        try:
            self._entries[key] = packed
        except ValueError:  # larger than the whole cache
            self._entries.pop(key, None)
            self._count("refused")

    async def close(self) -> None:
        self._entries.clear()


class _Entries(LRUCache[bytes, bytes]):
    def __init__(self, max_bytes: int, count: Callable[[CacheEvent], None]) -> None:
        super().__init__(max_bytes, lambda packed: sys.getsizeof(packed) + ENTRY_BYTES)
        self._count = count

    def popitem(self) -> tuple[bytes, bytes]:
        self._count("evicted")
        return super().popitem()
