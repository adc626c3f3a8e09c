"""Answers in a Redis server that the workers of a service share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lnmt.errors import LnmtError
from lnmt.observability.logging import get_logger
from lnmt.serving.breaker import Breaker
from lnmt.serving.cache.codec import seal, unseal
from lnmt.serving.cache.response import CacheEvent
from lnmt.serving.cache.round_trips import RoundTrips
from lnmt.types import Prediction

log = get_logger(__name__)

PREFIX = b"lnmt:response:1:"  # 1: of what `seal` writes


class RedisCache:
    """Keeps answers for `ttl_s` seconds; the bound of memory is the server's own (`maxmemory`, `allkeys-lru`).

    The server may be away, slow or full: a round trip takes at most `timeout_s`, what it does not answer
    is a miss, and after a few of those requests go on without it, while it is looked for beside them.
    That is logged when it begins and when it ends; `count` is told every time. Values carry a check of
    their own, so that what others left under our keys is a miss; whoever may write to the server can
    still answer for us: let it ask for a password.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float = 3600.0,
        timeout_s: float = 0.02,
        breaker: Breaker | None = None,
        count: Callable[[CacheEvent], None] = lambda event: None,
    ) -> None:
        try:
            from redis.asyncio import ConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise LnmtError("the Redis client is not installed", fix="pip install 'lnmt[redis]'") from error
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._breaker = breaker or Breaker()
        self._count = count
        self._probe: asyncio.Task[Any] | None = None
        try:
            pool = ConnectionPool.from_url(
                url,
                socket_timeout=None,  # the bound is on the whole round trip, a new connection included
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                protocol=2,  # without the greetings of 3, and with its check that a connection is clean
                driver_info=None,
            )
        except ValueError as error:
            raise LnmtError(
                f"not the address of a Redis server: {error}",
                where="response cache",
                allowed="redis://HOST:PORT/DATABASE, rediss:// for TLS, unix:///PATH",
            ) from error
        place = pool.connection_kwargs
        self._where = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"  # no password
        self._server = RoundTrips(Redis.from_pool(pool), timeout_s, self._ended)

    async def get(self, key: bytes) -> Prediction | None:
        data = await self._ask("GET", PREFIX + key)
        if not isinstance(data, bytes):
            return None
        found = unseal(key, data)
        if found is None:
            self._count("corrupt")
        return found

    async def put(self, key: bytes, value: Prediction) -> None:
        await self._ask("SET", PREFIX + key, seal(key, value), "PX", self._ttl_ms)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        await self._server.close()

    async def _ask(self, *command: str | bytes | int) -> Any:
        """The server's answer; None where there is none."""
        if self._breaker.is_open:
            self._count("skipped")
            if self._breaker.allows():
                self._probe = asyncio.create_task(self._server.ask("PING"))
            return None
        answer = await self._server.ask(*command)
        if isinstance(answer, Exception):
            self._count("failed")
            return None
        return answer

    def _ended(self, error: Exception | None) -> None:
        """A round trip came back, or did not. (A command that the server refuses came back.)"""
        if error is None:
            if self._breaker.succeeded():
                log.info("the response cache answers again", where=self._where)
        elif self._breaker.failed():
            what = str(error) or type(error).__name__
            log.warning("the response cache does not answer; going on without it", where=self._where, error=what)
