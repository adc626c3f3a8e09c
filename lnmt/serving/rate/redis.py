"""Buckets that all machines share: a Redis server, one script for all requests that wait."""

from __future__ import annotations

import asyncio
from typing import Any

from lnmt.errors import LnmtError
from lnmt.serving.rate.bucket import Ask, Rate, StoreLost

TOGETHER = 256  # requests of one script at most

# `lnmt.serving.rate.bucket.take`, atomic, for one request after the other. KEYS: their buckets. ARGV: requests a
# second and burst of each. The server's clock is the only one. Times count from a late epoch and are written in
# full, so that a double keeps them to 15 ns; the answers are text, as Redis cuts numbers to integers. What is
# over is forgotten.
_TAKE = """
local time = redis.call('TIME')
local now = (time[1] - 1700000000) + time[2] / 1e6
local waits = {}
for index, key in ipairs(KEYS) do
    local interval = 1 / tonumber(ARGV[2 * index - 1])
    local slack = interval * 1e-3
    local full = tonumber(ARGV[2 * index]) * interval
    local stored = tonumber(redis.call('GET', key) or now)
    local arrival = math.min(math.max(stored, now), now + full + slack)
    local wait = arrival + interval - full - now
    if wait <= slack then
        arrival = arrival + interval
        wait = 0
    end
    if arrival ~= stored then
        redis.call('SET', key, string.format('%.17g', arrival), 'PX', math.ceil((arrival - now) * 1000))
    end
    waits[index] = string.format('%.17g', wait)
end
return waits
"""


class RedisLimiter:
    """One key a principal, gone when its bucket is full. One connection, over which requests go in their order.

    Those that come while an answer is under way go together next. Connects at first use; used from one
    event loop. Raises LnmtError for what is no address of a Redis server, and StoreLost where it does not
    answer within `timeout_s`.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ImportError as error:
            raise LnmtError("the Redis client is not installed", fix="pip install 'lnmt[redis]'") from error
        try:
            # a connection of this pool tries once: what to do next is decided by who asks
            self._client: Any = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        except ValueError as error:
            raise LnmtError(
                "not the address of a Redis server",
                where="LNMT_RATE_STORE",
                allowed="redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// over TLS",
                fix="mend it, or unset it: then the workers of one machine share their limits",
            ) from error
        self._errors = (RedisError, OSError)
        self._script = self._client.register_script(_TAKE)
        self._asked: list[Ask] = []
        self._asking: asyncio.Task[None] | None = None

    async def take(self, principal: str, rate: Rate) -> float:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[float] = loop.create_future()
        self._asked.append(Ask(principal, rate, future))
        if self._asking is None:
            self._asking = loop.create_task(self._ask())
        return await future

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self._client.aclose()

    async def _ask(self) -> None:
        """Until nothing waits. What nobody waits for any more is still asked: the request may have gone on."""
        try:
            while self._asked:
                asks, self._asked = self._asked[:TOGETHER], self._asked[TOGETHER:]
                keys = [f"lnmt:rate:{ask.principal}" for ask in asks]
                rates = [figure for ask in asks for figure in (ask.rate.per_s, ask.rate.burst)]
                try:
                    waits = await self._script(keys=keys, args=rates)
                except self._errors as error:
                    _fail(asks, StoreLost(f"{type(error).__name__}: {error}"))
                    continue
                for ask, wait in zip(asks, waits, strict=True):
                    if not ask.future.done():
                        ask.future.set_result(float(wait))
        finally:
            self._asking = None


def _fail(asks: list[Ask], error: StoreLost) -> None:
    for ask in asks:
        if not ask.future.done():
            ask.future.set_exception(error)
