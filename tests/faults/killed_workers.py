"""kill -9 of a worker under requests: only those in flight on it may fail, and no answer is without its event."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lnmt.monitoring.events import read_events
from tests.faults.kit import Outcome
from tests.faults.load import Load, Sent, predict_once
from tests.service_kit import Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

RATE = 100.0  # requests a second
LIMIT_S = 2.0  # for a request that comes after a kill
WORKERS = 2


@dataclass(frozen=True)
class Kill:
    """What was going on at one."""

    at: float  # monotonic seconds
    ports: frozenset[int]  # of the clients whose connections the worker had


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` kills of a drawn worker of two, each when both are ready."""
    outcome = Outcome("kill -9 of a worker", 0)
    project = make_service_project(directory / "project", tiny_bundle(directory / "bundle"))
    service = Instance(project, workers=WORKERS)
    try:
        service.await_ready(WORKERS)
        load = asyncio.run(_kill_again(count, service, random.Random(seed), outcome, tick))
    finally:
        service.kill()
    _judge_events(load, project / ".lnmt" / "events", outcome)
    return outcome


def _judge_events(load: Load, directory: Path, outcome: Outcome) -> None:
    """Every answer's event is there, once, wherever compaction had got to when all was killed."""
    found = Counter(event.id for event in read_events(directory))
    answered = {sent.prediction_id for sent in load.sent if sent.prediction_id is not None}
    wrong = {"answers without an event": len(answered - found.keys()), "events read twice": found.total() - len(found)}
    outcome.figures |= {"answers with an event": len(answered & found.keys()), **wrong}
    outcome.failures += [f"{number} {what}" for what, number in wrong.items() if number]


async def _kill_again(
    count: int, service: Instance, draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> Load:
    load = Load(RATE, lambda sent: predict_once(service.port, sent))
    kills: list[Kill] = []
    back = 0.0

    async def kill_in_turn() -> None:
        nonlocal back
        for _ in range(count):
            await asyncio.sleep(draw.uniform(1.1, 1.6))  # longer than a worker is young
            victim = draw.choice(service.workers())
            kills.append(await asyncio.to_thread(kill, victim, service.port))
            await asyncio.to_thread(await_replaced, victim, service)
            back = max(back, time.monotonic() - kills[-1].at)
            tick()

    await load.run(kill_in_turn())
    outcome.tried = len(kills)
    outcome.failures += [
        f"not in flight on a killed worker: {one.failure}" for one in load.failed if not hit(one, kills)
    ]
    after = [sent for sent in load.sent if any(kill.at <= sent.started <= kill.at + LIMIT_S for kill in kills)]
    slow = [sent for sent in after if sent.ended - sent.started > LIMIT_S]
    outcome.failures += [f"took {sent.ended - sent.started:.1f} s after a kill" for sent in slow]
    outcome.figures = {
        "requests": len(load.sent),
        "failed, in flight on a killed worker": sum(hit(one, kills) for one in load.failed),
        "failed, others": sum(not hit(one, kills) for one in load.failed),
        "slowest answer after a kill, s": round(max((sent.ended - sent.started for sent in after), default=0.0), 3),
        "longest until all workers were ready again, s": round(back, 2),
    }
    return load


def kill(worker: psutil.Process, port: int) -> Kill:
    """Stop it first, so that what it has in hand is known, then kill it."""
    worker.suspend()
    connections = worker.net_connections("tcp")
    ports = frozenset(one.raddr.port for one in connections if one.raddr and one.laddr.port == port)
    worker.kill()
    return Kill(time.monotonic(), ports)


def await_replaced(victim: psutil.Process, service: Instance) -> None:
    """Until another one is ready in its place: readiness may count the victim for an instant more."""
    while victim in (workers := service.workers()) or len(workers) < WORKERS:
        time.sleep(0.01)
    service.await_ready(WORKERS)


def hit(sent: Sent, kills: list[Kill]) -> bool:
    """Whether a kill came while this request was on the killed worker."""
    return any(sent.started <= kill.at <= sent.ended and sent.client_port in kill.ports for kill in kills)
