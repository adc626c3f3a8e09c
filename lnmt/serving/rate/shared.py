"""A shared limiter that nobody has to wait for: while its store is away, each process counts for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from lnmt.errors import LnmtError
from lnmt.observability.logging import get_logger
from lnmt.serving.breaker import Breaker
from lnmt.serving.rate.bucket import Rate, RateLimiter, StoreLost
from lnmt.serving.rate.memory import MemoryLimiter

log = get_logger(__name__)

BOUND_S = 0.25  # for one answer of the store
AWAY_S = 5.0  # until the store is tried again, by one request
_SQLITE = "sqlite:///"


class SharedLimiter:
    """Asks the store; where it does not answer within the bound, the memory of this process for a while.

    Then every worker grants the whole rate: up to as many times the limit as there are workers, and no
    request fails. `on_fallback` is called for each request that memory decided.
    """

    def __init__(
        self,
        store: RateLimiter,
        *,
        on_fallback: Callable[[], None],
        bound_s: float = BOUND_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._memory = MemoryLimiter(clock=clock)
        self._on_fallback = on_fallback
        self._bound_s = bound_s
        self._breaker = Breaker(failures=1, rest_s=AWAY_S, clock=clock)

    async def take(self, principal: str, rate: Rate) -> float:
        if not self._breaker.allows():
            return await self._alone(principal, rate)
        try:
            async with asyncio.timeout(self._bound_s):
                wait_s = await self._store.take(principal, rate)
        except (StoreLost, TimeoutError) as error:
            self._lost(error)
            return await self._alone(principal, rate)
        if self._breaker.succeeded():
            log.info("rate limits are shared again")
        return wait_s

    async def close(self) -> None:
        await self._store.close()

    async def _alone(self, principal: str, rate: Rate) -> float:
        self._on_fallback()
        return await self._memory.take(principal, rate)

    def _lost(self, error: Exception) -> None:
        if self._breaker.failed():
            why = str(error) or f"no answer within {self._bound_s:g} s"
            fix = "the store of LNMT_RATE_STORE must run; it is tried again every few seconds"
            log.warning("rate limits are not shared: each worker counts for itself", error=why, fix=fix)


def open_limiter(store: str, *, on_fallback: Callable[[], None]) -> RateLimiter:
    """The limiter of LNMT_RATE_STORE: `memory`, `sqlite:///PATH` or `redis://…`. Opens nothing yet.

    Raises LnmtError for anything else.
    """
    if store == "memory":
        return MemoryLimiter()
    if store.startswith(_SQLITE):
        from lnmt.serving.rate.sqlite import SqliteLimiter

        return SharedLimiter(SqliteLimiter(Path(store.removeprefix(_SQLITE))), on_fallback=on_fallback)
    if store.startswith(("redis://", "rediss://", "unix://")):
        from lnmt.serving.rate.redis import RedisLimiter

        return SharedLimiter(RedisLimiter(store, BOUND_S), on_fallback=on_fallback)
    raise LnmtError(
        "no such store for rate limits",
        where="LNMT_RATE_STORE",
        value=store,
        allowed="memory, sqlite:///PATH, redis://HOST:PORT/DATABASE",
        fix="mend it, or unset it for a SQLite file in the state directory",
    )
