"""Redis away, or the disk of the events full, for a while and under requests: what is promised then, and no waiting.

Without Redis requests go on: answers are worked out anew, and each worker counts for itself. Without room for its
event an answer is not given: 503 with Retry-After. The process lives all the while.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lnmt.bundles import Bundle
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.events import read_events
from lnmt.settings import Settings
from tests.faults.full_disk import small_disk
from tests.faults.kit import Outcome
from tests.faults.load import Load, Sent
from tests.faults.poison import innocents
from tests.faults.wire import Connections, Reply, get, post, sample
from tests.redis_server import RedisServer, running_redis
from tests.service_kit import NAME, Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

RATE = 100.0  # requests a second
RATE_LIMIT = "100000"  # far above it: what counts is that the store is asked
TEXTS = 30  # few: the cache has most answers
SETTLE_S, AWAY_S = 1.0, 3.0
LOOK_S = 0.05
LIMIT_S = 1.0  # for any answer
BACK_S = 20.0  # until a store that is there again is used again
DISK = "16m"
HITS = f'lnmt_cache_lookups_total{{model="{NAME}",outcome="hit"}}'
LOST, FOUND = "rate limits are not shared", "rate limits are shared again"  # in the service's log


@dataclass
class Watched:
    """Requests to a service, and its liveness beside them."""

    service: Instance
    draw: random.Random
    answered: list[str] = field(default_factory=list)  # prediction ids
    refused: list[Sent] = field(default_factory=list)  # 503 with Retry-After
    alive: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self._texts = innocents(self.draw)[:TEXTS]
        self._connections = Connections(self.service.port)

    async def run(self, during: Awaitable[None]) -> int:
        """Ask until `during` is done; how often."""
        load = Load(RATE, self._send)
        watch = asyncio.create_task(self._watch())
        await load.run(during)
        watch.cancel()
        self._connections.close()
        self.failures += [f"a request: {sent.failure}" for sent in load.failed]
        for sent in load.sent:
            self._time("a request", sent.ended - sent.started)
        return len(load.sent)

    async def metrics(self, series: str) -> float:
        """A figure of the service now."""
        return sample(await self._connections.ask(get("/metrics")), series)

    async def _send(self, sent: Sent) -> None:
        reply = await self._connections.ask(post({"text": self.draw.choice(self._texts)}))
        if reply.status == 200:
            self.answered.append(reply.json()["prediction_id"])
        elif reply.status == 503 and (reply.header("retry-after") or "").isdigit():
            self.refused.append(sent)
        else:
            sent.failure = f"{reply.status}: {reply.body[:200].decode()}"

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            try:
                reply: Reply | None = await self._connections.ask(get("/livez"))
            except (OSError, EOFError) as error:
                self.failures.append(f"/livez: {type(error).__name__}: {error}")
                reply = None
            if reply is not None and reply.status != 200:
                self.failures.append(f"/livez: {reply.status}")
            self.alive += 1
            self._time("/livez", time.monotonic() - began)
            await asyncio.sleep(LOOK_S)

    def _time(self, what: str, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds)
        if seconds > LIMIT_S:
            self.failures.append(f"{what} took {seconds:.1f} s")


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` times Redis held, killed with signal 9, and begun again; as often the disk full."""
    outcome = Outcome("Redis away, disk full", 0)
    bundle = tiny_bundle(directory / "bundle")
    parts = {"Redis": _without_redis, "disk": _without_room}
    lacking = {}
    for name, part in parts.items():
        try:
            part(count, directory / name, bundle, random.Random(seed), outcome, tick)
        except _Lacking as lacks:
            lacking[name] = str(lacks)
    outcome.figures |= lacking
    if len(lacking) == len(parts):
        outcome.skipped = "; ".join(lacking.values())
    return outcome


class _Lacking(Exception):
    """This machine cannot try it."""


def _without_redis(
    count: int, directory: Path, bundle: Bundle, draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> None:
    if shutil.which("redis-server") is None or importlib.util.find_spec("redis") is None:
        raise _Lacking("redis-server, or its client, is not installed")
    project = make_service_project(directory, bundle)
    with running_redis(directory) as redis:
        given = Instance(project, response_cache=redis.url, rate_store=redis.url, rate=RATE_LIMIT)
        with _serving(given) as service:
            watched = Watched(service, draw)
            asked = asyncio.run(watched.run(_take_away(count, redis, watched, outcome, tick)))
        outcome.figures |= _figures("Redis", asked, watched)
        outcome.failures += [f"Redis: {text}" for text in watched.failures]
        if watched.refused:
            outcome.failures.append(f"Redis: {len(watched.refused)} requests were refused")


async def _take_away(
    count: int, redis: RedisServer, watched: Watched, outcome: Outcome, tick: Callable[[], None]
) -> None:
    await _used(0, redis, watched)
    for number, way in itertools.product(range(1, count + 1), ("held", "killed")):
        lost = _lines(watched.service, LOST)
        if way == "held":
            with redis.held():  # it takes connections, and says nothing
                await asyncio.sleep(AWAY_S)
        else:
            assert redis.process is not None
            redis.process.kill()
            await asyncio.to_thread(redis.process.wait)
            redis.stop()
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(redis.start)
        if _lines(watched.service, LOST) == lost:
            watched.failures.append(f"{way} {number}: the service never noticed")
        await _used(lost + 1, redis, watched)
        outcome.tried += 1
        tick()


async def _used(found: int, redis: RedisServer, watched: Watched) -> None:
    """Until the cache gives answers, and rate limits were shared again so many times."""
    hits = await watched.metrics(HITS)
    try:
        async with asyncio.timeout(BACK_S):
            while await watched.metrics(HITS) <= hits or _lines(watched.service, FOUND) < found:
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        watched.failures.append(f"Redis is not used again after {BACK_S:g} s")
    await asyncio.sleep(SETTLE_S)


def _without_room(
    count: int, directory: Path, bundle: Bundle, draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> None:
    events = Settings(project=make_service_project(directory, bundle)).events_dir
    with ExitStack() as stack:
        try:
            stack.enter_context(small_disk(events, DISK))
        except OSError as error:
            raise _Lacking(f"cannot mount a tmpfs: {error.strerror}") from error
        with _serving(Instance(directory)) as service:
            watched = Watched(service, draw)
            full: list[tuple[float, float]] = []
            asked = asyncio.run(watched.run(_fill_up(count, events, watched, full, outcome, tick)))
        report = ReadReport()
        kept = {event.id for event in read_events(events, report=report)}
    early = [sent for sent in watched.refused if not any(sent.ended >= a and sent.started <= b for a, b in full)]
    outcome.failures += [f"disk: {text}" for text in watched.failures]
    if early:
        outcome.failures.append(f"disk: {len(early)} requests were refused while there was room")
    if lost := set(watched.answered) - kept:
        outcome.failures.append(f"disk: {len(lost)} answers have no event")
    if report.duplicates:
        outcome.failures.append(f"disk: {report.duplicates} events are there twice")
    outcome.figures |= _figures("disk", asked, watched) | {"disk: answers without an event": len(lost)}


async def _fill_up(
    count: int,
    events: Path,
    watched: Watched,
    full: list[tuple[float, float]],
    outcome: Outcome,
    tick: Callable[[], None],
) -> None:
    """When the disk was full: from just before to just after, in monotonic seconds."""
    filler = events / "filler"
    for number in range(1, count + 1):
        await asyncio.sleep(SETTLE_S)
        refused, began = len(watched.refused), time.monotonic()
        await asyncio.to_thread(fill, filler)
        await asyncio.sleep(AWAY_S)
        filler.unlink()
        full.append((began, time.monotonic()))
        if len(watched.refused) == refused:
            watched.failures.append(f"{number}: nobody was refused")
        outcome.tried += 1
        tick()
    await asyncio.sleep(SETTLE_S)


def fill(filler: Path) -> None:
    """Leave no room on a disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 65_536)


def _figures(what: str, asked: int, watched: Watched) -> dict[str, int | float | str]:
    return {
        f"{what}: requests": asked,
        f"{what}: answered": len(watched.answered),
        f"{what}: refused": len(watched.refused),
        f"{what}: /livez 200": watched.alive,
        f"{what}: slowest, s": round(watched.slowest, 3),
    }


@contextmanager
def _serving(service: Instance) -> Iterator[Instance]:
    """It is ready, and leaves nothing behind: no open file keeps a disk busy."""
    workers: list[psutil.Process] = []
    try:
        service.await_ready()
        workers = service.workers()
        yield service
    finally:
        service.kill()
        psutil.wait_procs(workers)


def _lines(service: Instance, text: str) -> int:
    """How often its log has it."""
    return service.log.read_text(encoding="utf-8").count(text)
