"""SIGTERM to one of two instances at a time, under requests of a client that watches their readiness."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from tests.faults.kit import Outcome
from tests.faults.load import BODY, Load, Sent
from tests.service_kit import Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

RATE = 100.0  # requests a second
DRAIN_S = 2.0
LOOK_S = 0.25  # between two looks at an instance's readiness, as a load balancer's
LIMIT_S = 30.0  # from SIGTERM to the end
SETTLE_S = 0.5  # under load, before and after


class Balancer:
    """Sends each request to the next instance that was ready when it looked last; connections are kept."""

    def __init__(self, instances: list[Instance]) -> None:
        self.instances = instances
        self.ready: set[int] = set()
        self._turns = itertools.count()
        self._client = httpx.AsyncClient(trust_env=False, timeout=5, limits=httpx.Limits(max_connections=None))

    async def send(self, sent: Sent) -> None:
        """One request."""
        ready = sorted(self.ready)
        if not ready:
            sent.failure = "no instance is ready"
            return
        sent.target = self.instances[ready[next(self._turns) % len(ready)]].url
        reply = await self._client.post(
            f"{sent.target}/predict", content=BODY, headers={"content-type": "application/json"}
        )
        if reply.status_code != 200:
            sent.failure = f"status {reply.status_code}"

    async def watch(self) -> None:
        """Look at every instance, again and again."""
        while True:
            for number in range(len(self.instances)):
                await self._look(number)
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def _look(self, number: int) -> None:
        try:
            status = (await self._client.get(f"{self.instances[number].url}/readyz")).status_code
        except httpx.TransportError:
            status = 0
        (self.ready.add if status == 200 else self.ready.discard)(number)


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` ends, of one instance and the other in turn; each is started again and ready before the next."""
    outcome = Outcome("SIGTERM of an instance", 0)
    bundle = tiny_bundle(directory / "bundle")
    instances = []
    try:
        for name in ("one", "other"):
            instances.append(_start(make_service_project(directory / name, bundle)))
        for instance in instances:
            instance.await_ready()
        asyncio.run(_drain(count, instances, outcome, tick))
    finally:
        for instance in instances:
            instance.kill()
    return outcome


async def _drain(count: int, instances: list[Instance], outcome: Outcome, tick: Callable[[], None]) -> None:
    balancer = Balancer(instances)
    load = Load(RATE, balancer.send)
    slowest = 0.0
    loop = asyncio.get_running_loop()

    async def end_in_turn() -> None:
        nonlocal slowest
        for number in range(count):
            await asyncio.sleep(SETTLE_S)
            instance = instances[number % 2]
            began = loop.time()
            instance.process.send_signal(signal.SIGTERM)
            status: int | None = None
            with suppress(subprocess.TimeoutExpired):
                status = await asyncio.to_thread(instance.process.wait, LIMIT_S)
            slowest = max(slowest, loop.time() - began)
            if status != 0:
                outcome.failures.append(f"instance {instance.url} ended with {status}")
            instances[number % 2] = _start(instance.log.parent, instance.port)
            await asyncio.to_thread(instances[number % 2].await_ready)
            while number % 2 not in balancer.ready:
                await asyncio.sleep(LOOK_S)
            outcome.tried += 1
            tick()
        await asyncio.sleep(SETTLE_S)

    watch = asyncio.create_task(balancer.watch())
    while len(balancer.ready) < len(instances):
        await asyncio.sleep(LOOK_S)
    await load.run(end_in_turn())
    watch.cancel()
    await balancer.close()
    outcome.failures += [f"a request to {sent.target}: {sent.failure}" for sent in load.failed]
    outcome.figures = {
        "requests": len(load.sent),
        "failed": len(load.failed),
        "slowest end, s": round(slowest, 2),
        "drain, s": DRAIN_S,
        "slowest answer, s": round(max(sent.ended - sent.started for sent in load.sent), 3),
    }


def _start(project: Path, port: int | None = None) -> Instance:
    return Instance(project, port=port, drain_s=str(DRAIN_S))
