from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.errors import LnmtError
from lnmt.serving.rate.bucket import SLACK, Rate, RateLimiter, StoreLost, take
from lnmt.serving.rate.memory import MemoryLimiter
from lnmt.serving.rate.redis import RedisLimiter
from lnmt.serving.rate.shared import SharedLimiter, open_limiter
from lnmt.serving.rate.sqlite import SqliteLimiter
from tests.conftest import Log
from tests.redis_server import RedisServer, running_redis

SLOW = Rate(1e-3, 3)  # no token comes back while a test runs


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# --- the bucket

rates = st.builds(Rate, st.floats(0.01, 1e4), st.floats(1, 200))
gaps = st.lists(st.just(0.0) | st.floats(0, 0.01) | st.floats(0, 100), min_size=1, max_size=200)
starts = st.floats(0, 1e7)  # seconds since a machine started
ROUNDING_S = 1e-6  # of two hundred sums of such a time


@given(rates, starts, gaps)
def test_no_window_holds_more_than_burst_and_rate(rate: Rate, start: float, gaps: list[float]) -> None:
    arrival, now, granted = None, start, []
    for gap in gaps:
        now += gap
        arrival, wait = take(arrival, now, rate)
        if wait == 0:
            granted.append(now)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            seconds = granted[last] - granted[first]
            assert last - first + 1 <= rate.burst + rate.per_s * (seconds + ROUNDING_S) + SLACK


@given(rates, starts, gaps)
def test_who_waits_as_told_is_served(rate: Rate, start: float, gaps: list[float]) -> None:
    arrival, now = None, start
    for gap in gaps:
        now += gap
        arrival, wait = take(arrival, now, rate)
        assert 0 <= wait <= (1 + 2 * SLACK) / rate.per_s + ROUNDING_S
        if wait > 0:
            now += wait + ROUNDING_S
            arrival, wait = take(arrival, now, rate)
            assert wait == 0


@given(st.floats(0.01, 1000), st.integers(1, 100), starts)
def test_a_full_bucket_holds_the_burst_exactly(per_s: float, burst: int, start: float) -> None:
    arrival, granted = None, 0
    for _ in range(burst + 1):
        arrival, wait = take(arrival, start, Rate(per_s, burst))
        granted += wait == 0
    assert granted == burst


@given(rates, starts, st.floats(0, 1e9))
def test_a_time_of_another_clock_locks_nobody_out(rate: Rate, now: float, ahead: float) -> None:
    arrival, wait = take(now + ahead, now, rate)
    assert wait <= (1 + 2 * SLACK) / rate.per_s + ROUNDING_S
    if wait > 0:
        assert take(arrival, now + wait + ROUNDING_S, rate)[1] == 0


def test_without_a_burst_it_is_one_seconds_worth_and_at_least_one_request() -> None:
    assert [Rate.of(20), Rate.of(0.1), Rate.of(20, 5)] == [Rate(20, 20), Rate(0.1, 1), Rate(20, 5)]


# --- memory


def test_memory_counts_by_principal() -> None:
    async def run() -> list[float]:
        clock = Clock()
        limiter = MemoryLimiter(clock=clock)
        found = [await limiter.take(name, Rate(2, 1)) for name in ("anna", "anna", "ben")]
        clock.now += 0.5
        return [*found, await limiter.take("anna", Rate(2, 1))]

    assert asyncio.run(run()) == [0, 0.5, 0, 0]


def test_memory_is_bounded_and_forgets_who_was_away_longest() -> None:
    async def run() -> tuple[int, float, float]:
        limiter = MemoryLimiter(principals=3)
        for name in ("anna", "ben", "carl", "anna", "dora"):
            await limiter.take(name, Rate(1e-3, 2))
        return len(limiter), await limiter.take("anna", Rate(1e-3, 2)), await limiter.take("ben", Rate(1e-3, 2))

    size, anna, ben = asyncio.run(run())
    assert (size, ben) == (3, 0)
    assert anna > 0


# --- shared stores


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'rate.db'}"
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


def _open(store: str) -> RateLimiter:
    """The limiter itself, without the memory that stands in for it."""
    if store.startswith("redis"):
        return RedisLimiter(store, 10.0)
    return SqliteLimiter(Path(store.removeprefix("sqlite:///")))


def test_a_shared_bucket_holds_the_burst_and_refills(store: str, request: pytest.FixtureRequest) -> None:
    name = request.node.name  # one server serves all tests

    async def run() -> tuple[list[float], list[float]]:
        limiter = _open(store)
        slow = [await limiter.take(name, SLOW) for _ in range(4)]
        together = await asyncio.gather(*(limiter.take(f"{name} together", SLOW) for _ in range(6)))
        while await limiter.take(name, Rate(1000, 1)) > 0:
            await asyncio.sleep(0)
        await limiter.close()
        return slow, together

    slow, together = asyncio.run(run())
    assert [wait == 0 for wait in slow] == [True, True, True, False]
    assert 990 < slow[3] <= 1000
    assert sum(wait == 0 for wait in together) == 3


def test_another_limiter_of_the_store_knows(store: str, request: pytest.FixtureRequest) -> None:
    async def spend() -> list[bool]:
        limiter = _open(store)
        found = [await limiter.take(request.node.name, SLOW) == 0 for _ in range(2)]
        await limiter.close()
        return found

    assert [asyncio.run(spend()) for _ in range(3)] == [[True, True], [True, False], [False, False]]


ATTEMPTS = 1500
BUSY = Rate(200, 50)


async def _hammer(store: str, name: str, pipe: Connection) -> None:
    limiter = _open(store)

    async def granted(name: str) -> bool:
        while True:
            try:
                return await limiter.take(name, BUSY) == 0
            except StoreLost:  # a machine so busy that SQLite's turn came too late: nothing was taken
                continue

    await granted("warm up")
    pipe.send(None)
    pipe.recv()
    began = time.monotonic()
    count = sum([await granted(name) for _ in range(ATTEMPTS)])
    pipe.send((began, time.monotonic(), count))
    await limiter.close()


def _worker(store: str, name: str, pipe: Connection) -> None:
    asyncio.run(_hammer(store, name, pipe))


def test_four_processes_together_keep_the_limit(store: str, request: pytest.FixtureRequest) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.serving.test_rate"])
    workers, pipes = [], []
    for _ in range(4):
        ours, theirs = context.Pipe()
        workers.append(context.Process(target=_worker, args=(store, request.node.name, theirs), daemon=True))
        workers[-1].start()
        theirs.close()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    found = [pipe.recv() for pipe in pipes]
    seconds = max(end for _, end, _ in found) - min(began for began, _, _ in found)
    limit = BUSY.burst + BUSY.per_s * seconds
    assert BUSY.burst <= sum(count for _, _, count in found) <= 1.01 * limit
    for worker, pipe in zip(workers, pipes, strict=True):
        worker.join()
        pipe.close()


# --- SQLite alone


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "rate.db"

    async def spend() -> list[bool]:
        limiter = SqliteLimiter(path)
        found = [await limiter.take("anna", SLOW) == 0 for _ in range(3)]
        await limiter.close()
        return found

    path.write_bytes(b"no database at all" * 1000)
    assert asyncio.run(spend()) == [True] * 3
    assert asyncio.run(spend()) == [False] * 3
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    assert asyncio.run(spend()) == [True] * 3


def test_a_time_of_before_the_machine_started_anew_locks_nobody_out(tmp_path: Path) -> None:
    async def spend(clock: Clock) -> list[float]:
        limiter = SqliteLimiter(tmp_path / "rate.db", clock=clock)
        found = [await limiter.take("anna", Rate(2, 2)) for _ in range(3)]
        await limiter.close()
        return found

    before, after = Clock(), Clock()
    before.now, after.now = 1e6, 5.0
    assert asyncio.run(spend(before)) == pytest.approx([0, 0, 0.5])
    assert asyncio.run(spend(after)) == pytest.approx([0.5] * 3, rel=2 * SLACK)
    after.now += 0.51
    assert asyncio.run(spend(after))[0] == 0


def test_the_thread_ends(tmp_path: Path) -> None:
    async def run() -> None:
        limiter = SqliteLimiter(tmp_path / "rate.db")
        await limiter.take("anna", SLOW)
        await limiter.close()
        await limiter.close()

    asyncio.run(run())
    assert [thread for thread in threading.enumerate() if thread.name == "rate-limit"] == []


# --- a store that goes away


async def _decide(limiter: SharedLimiter, name: str, times: int) -> list[bool]:
    return [await limiter.take(name, SLOW) == 0 for _ in range(times)]


def test_while_redis_is_away_memory_decides_and_it_is_said_once(tmp_path: Path, log: Log) -> None:
    async def run(server: RedisServer) -> None:
        clock, alone = Clock(), []
        store = RedisLimiter(server.url, 10.0)
        limiter = SharedLimiter(store, on_fallback=lambda: alone.append(1), bound_s=10.0, clock=clock)
        assert await _decide(limiter, "anna", 2) == [True, True]
        server.stop()
        assert await _decide(limiter, "anna", 5) == [True, True, True, False, False]
        clock.now += 5.0
        assert await _decide(limiter, "anna", 1) == [False]  # tried, and still away
        assert len(alone) == 6
        assert [line["level"] for line in log()] == ["warning"]
        server.start()
        assert await _decide(limiter, "ben", 1) == [True]
        assert len(alone) == 7  # not tried yet
        clock.now += 5.0
        assert await _decide(limiter, "anna", 4) == [True, True, True, False]
        assert len(alone) == 7
        await limiter.close()
        assert [line["event"] for line in log() if line["level"] == "info"] == ["rate limits are shared again"]

    with running_redis(tmp_path) as server:
        asyncio.run(run(server))


def test_a_redis_that_hangs_is_not_waited_for(tmp_path: Path, log: Log) -> None:
    async def run(server: RedisServer) -> None:
        alone: list[int] = []
        store = RedisLimiter(server.url, 30.0)
        limiter = SharedLimiter(store, on_fallback=lambda: alone.append(1), bound_s=0.05, clock=Clock())
        assert await _decide(limiter, "anna", 1) == [True]
        with server.held():
            crowd = await asyncio.gather(*(_decide(limiter, "anna", 1) for _ in range(20)))
        assert sum(found == [True] for found in crowd) == 3
        assert len(alone) == 20
        await limiter.close()
        [line] = [line for line in log() if line["level"] == "warning"]
        assert line["error"] == "no answer within 0.05 s"

    with running_redis(tmp_path) as server:
        asyncio.run(run(server))


def test_a_file_that_another_process_holds_is_not_waited_for(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "rate.db"

    async def run() -> None:
        alone: list[int] = []
        clock = Clock()
        limiter = SharedLimiter(SqliteLimiter(path), on_fallback=lambda: alone.append(1), bound_s=10.0, clock=clock)
        assert await _decide(limiter, "anna", 1) == [True]
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        assert await _decide(limiter, "anna", 4) == [True, True, True, False]
        assert len(alone) == 4
        holder.execute("ROLLBACK")
        holder.close()
        clock.now += 5.0
        assert await _decide(limiter, "anna", 3) == [True, True, False]
        assert len(alone) == 4
        await limiter.close()

    asyncio.run(run())
    [line] = [line for line in log() if line["level"] == "warning"]
    assert "locked" in line["error"]


def test_a_directory_that_cannot_be_made_is_only_a_lost_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def run() -> list[bool]:
        alone: list[int] = []
        limiter = open_limiter(f"sqlite:///{tmp_path / 'file' / 'rate.db'}", on_fallback=lambda: alone.append(1))
        found = [await limiter.take("anna", SLOW) == 0 for _ in range(4)]
        await limiter.close()
        assert len(alone) == 4
        return found

    assert asyncio.run(run()) == [True, True, True, False]


# --- by setting


def test_the_setting_names_the_store(tmp_path: Path) -> None:
    async def kinds() -> list[type]:
        stores = ["memory", f"sqlite:///{tmp_path / 'rate.db'}", "redis://127.0.0.1:1/0"]
        limiters = [open_limiter(store, on_fallback=lambda: None) for store in stores]
        for limiter in limiters:
            await limiter.close()
        return [type(limiter) for limiter in limiters]

    pytest.importorskip("redis", reason="the extra `redis` is not installed")
    assert asyncio.run(kinds()) == [MemoryLimiter, SharedLimiter, SharedLimiter]
    assert list(tmp_path.iterdir()) == []  # nothing is opened before it is used


@pytest.mark.parametrize("store", ["disk", "", "sqlite:/x", "http://127.0.0.1"])
def test_another_store_is_refused(store: str) -> None:
    with pytest.raises(LnmtError, match="no such store for rate limits"):
        open_limiter(store, on_fallback=lambda: None)


def test_a_wrong_redis_address_is_refused_without_its_password() -> None:
    pytest.importorskip("redis", reason="the extra `redis` is not installed")
    with pytest.raises(LnmtError, match="not the address of a Redis server") as caught:
        open_limiter("redis://user:secret@127.0.0.1:port/0", on_fallback=lambda: None)
    assert "secret" not in str(caught.value)
