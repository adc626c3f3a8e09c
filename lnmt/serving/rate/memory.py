"""Buckets of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from lnmt.serving.rate.bucket import Rate, take


class MemoryLimiter:
    """Keeps at most `principals` numbers: who was not seen for longest is forgotten, and had a full bucket soonest."""

    def __init__(self, principals: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._principals = principals
        self._clock = clock
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    async def take(self, principal: str, rate: Rate) -> float:
        arrival_s, wait_s = take(self._arrivals.get(principal), self._clock(), rate)
        self._arrivals[principal] = arrival_s
        self._arrivals.move_to_end(principal)
        if len(self._arrivals) > self._principals:
            self._arrivals.popitem(last=False)
        return wait_s

    async def close(self) -> None:
        self._arrivals.clear()

    def __len__(self) -> int:
        return len(self._arrivals)
