"""Answers that are kept in a real Redis, which comes, goes, hangs and fills up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from lnmt.errors import LnmtError
from lnmt.serving.breaker import Breaker
from lnmt.serving.cache import cache_key
from lnmt.serving.cache.codec import seal
from lnmt.serving.cache.redis import PREFIX, RedisCache
from tests.conftest import Log
from tests.redis_server import RedisServer, running_redis
from tests.serving.test_cache import KEY, Counts, prediction, same


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Kit:
    """A cache whose breaker has a clock of the test's, and what it counted."""

    def __init__(self, url: str) -> None:
        self.clock, self.counts = Clock(), Counts()
        breaker = Breaker(failures=3, rest_s=1.0, clock=self.clock)
        self.cache = RedisCache(url, ttl_s=100.0, timeout_s=5.0, breaker=breaker, count=self.counts)

    async def looked_for(self) -> None:
        """A rest passes, a request comes, and the look beside it ends."""
        self.clock.now += 1.0
        assert await self.cache.get(KEY) is None
        assert self.cache._probe is not None
        await self.cache._probe


def with_kit(make: Callable[[], Kit], test: Callable[[Kit], Coroutine[Any, Any, None]]) -> None:
    async def go() -> None:
        kit = make()
        try:
            await test(kit)
        finally:
            await kit.cache.close()

    asyncio.run(go())


def test_redis_keeps_an_answer_for_its_time_and_for_all_workers(server: RedisServer) -> None:
    async def go(kit: Kit) -> None:
        await kit.cache._server._client.flushdb()
        assert await kit.cache.get(KEY) is None
        await kit.cache.put(KEY, prediction())
        assert same(await kit.cache.get(KEY), prediction())
        assert 0 < await kit.cache._server._client.pttl(PREFIX + KEY) <= 100_000
        other = Kit(server.url)
        assert same(await other.cache.get(KEY), prediction())
        await other.cache.close()
        assert kit.counts == Counts()

    with_kit(lambda: Kit(server.url), go)


@pytest.mark.parametrize(
    "left", [b"", b"other's", seal(KEY, prediction())[:-1], seal(cache_key("sha256:2", "x"), prediction())]
)
def test_what_others_left_under_a_key_is_a_miss(server: RedisServer, left: bytes) -> None:
    async def go(kit: Kit) -> None:
        await kit.cache._server._client.set(PREFIX + KEY, left)
        assert await kit.cache.get(KEY) is None
        assert kit.counts == Counts({"corrupt": 1})
        await kit.cache.put(KEY, prediction())
        assert same(await kit.cache.get(KEY), prediction())

    with_kit(lambda: Kit(server.url), go)


def test_a_key_of_another_type_is_a_miss(server: RedisServer) -> None:
    async def go(kit: Kit) -> None:
        await kit.cache._server._client.delete(PREFIX + KEY)
        await kit.cache._server._client.lpush(PREFIX + KEY, b"x")
        assert await kit.cache.get(KEY) is None
        assert kit.counts == Counts({"failed": 1})
        await kit.cache._server._client.delete(PREFIX + KEY)

    with_kit(lambda: Kit(server.url), go)


def test_without_the_server_requests_go_on_and_it_is_told_once(tmp_path: Path, log: Log) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache.put(KEY, prediction())
            server.stop()
            for _ in range(10):
                assert await kit.cache.get(KEY) is None
            assert kit.counts == Counts({"failed": 3, "skipped": 7})
            await kit.looked_for()  # in vain
            await kit.cache.put(KEY, prediction())
            assert kit.counts == Counts({"failed": 3, "skipped": 9})
            assert [line["event"] for line in log()] == ["the response cache does not answer; going on without it"]
            server.start()
            await kit.looked_for()
            await kit.cache.put(KEY, prediction())
            assert same(await kit.cache.get(KEY), prediction())
            assert kit.counts == Counts({"failed": 3, "skipped": 10})
            assert [line["event"] for line in log()][1:] == ["the response cache answers again"]

        with_kit(lambda: Kit(server.url), go)
    assert {line["where"] for line in log()} == {f"127.0.0.1:{server.port}"}


def test_a_server_that_hangs_is_left_after_the_time_allowed(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache.put(KEY, prediction())
            kit.cache._server.timeout_s = 0.02
            with server.held():
                for _ in range(5):
                    assert await kit.cache.get(KEY) is None
                await kit.looked_for()
            assert kit.counts == Counts({"failed": 3, "skipped": 3})

        with_kit(lambda: Kit(server.url), go)


def test_answers_that_came_too_late_are_not_taken_for_others(tmp_path: Path) -> None:
    """Connections that were given up half-way are not used again: each key has its own answer afterwards."""
    keys = [cache_key("sha256:1", str(number)) for number in range(100)]
    values = [prediction(score=number / 100) for number in range(100)]
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            for key, value in zip(keys, values, strict=True):
                await kit.cache.put(key, value)
            kit.cache._server.timeout_s = 0.02
            with server.held():
                for failed in (100, 200, 300):
                    assert set(await asyncio.gather(*map(kit.cache.get, keys))) == {None}
                    assert kit.counts == Counts({"failed": failed})
            kit.cache._server.timeout_s = 5.0
            await kit.looked_for()
            found = await asyncio.gather(*map(kit.cache.get, reversed(keys)))
            assert all(same(one, value) for one, value in zip(found, reversed(values), strict=True))
            assert kit.counts["corrupt"] == 0

        with_kit(lambda: Kit(server.url), go)


def test_a_request_that_leaves_while_it_asks_is_no_failure(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache.put(KEY, prediction())
            with server.held():
                asking = asyncio.create_task(kit.cache.get(KEY))
                await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            assert same(await kit.cache.get(KEY), prediction())
            assert kit.counts == Counts()

        with_kit(lambda: Kit(server.url), go)


def test_a_full_server_is_a_miss(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache._server._client.config_set("maxmemory", "1")
            await kit.cache.put(KEY, prediction())
            assert await kit.cache.get(KEY) is None
            assert kit.counts == Counts({"failed": 1})

        with_kit(lambda: Kit(server.url), go)


def test_what_is_no_address_is_told_without_its_password() -> None:
    with pytest.raises(LnmtError, match="not the address of a Redis server") as caught:
        RedisCache("http://user:secret@127.0.0.1")
    assert "secret" not in str(caught.value)
    assert RedisCache("redis://user:secret@127.0.0.1:1/3")._where == "127.0.0.1:1"
    assert RedisCache("unix:///tmp/redis.sock")._where == "/tmp/redis.sock"


def test_those_who_ask_together_share_a_connection(tmp_path: Path) -> None:
    keys = [cache_key("sha256:1", str(number)) for number in range(200)]
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await asyncio.gather(*(kit.cache.put(key, prediction()) for key in keys))
            assert None not in await asyncio.gather(*map(kit.cache.get, keys))
            told = await kit.cache._server._client.info("stats")
            assert told["total_connections_received"] == 1

        with_kit(lambda: Kit(server.url), go)


def test_closing_leaves_nobody_waiting(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache.put(KEY, prediction())
            with server.held():
                first = asyncio.create_task(kit.cache.get(KEY))
                for _ in range(10):  # it is on its way
                    await asyncio.sleep(0)
                second = asyncio.create_task(kit.cache.get(KEY))
                await asyncio.sleep(0)  # it waits for the next round trip
                await kit.cache._server.close()
                assert set(await asyncio.gather(first, second)) == {None}

        with_kit(lambda: Kit(server.url), go)


def test_closing_at_once_leaves_nobody_waiting() -> None:
    async def go() -> None:
        cache = RedisCache("redis://127.0.0.1:1")
        asking = asyncio.create_task(cache.get(KEY))
        await asyncio.sleep(0)  # it has asked, and nothing was sent yet
        await cache.close()
        assert await asking is None

    asyncio.run(go())


def test_those_who_wait_for_a_round_trip_that_fails_fail_with_it(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def go(kit: Kit) -> None:
            await kit.cache.put(KEY, prediction())
            kit.cache._server.timeout_s = 0.02
            with server.held():
                first = asyncio.create_task(kit.cache.get(KEY))
                for _ in range(10):  # it is on its way
                    await asyncio.sleep(0)
                assert set(await asyncio.gather(first, kit.cache.get(KEY))) == {None}
            assert (kit.counts, kit.cache._breaker._failures) == (Counts({"failed": 2}), 1)

        with_kit(lambda: Kit(server.url), go)
