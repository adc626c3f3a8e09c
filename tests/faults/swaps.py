"""Switches of what is live, and candidates that cannot be, under requests: every answer is of what was live then."""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil

from lnmt.bundles import Bundle, BundleStore
from lnmt.files import sha256_bytes
from lnmt.monitoring.events import PredictionEvent, read_events
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.settings import Settings
from lnmt.types import Prediction
from tests.faults.kit import Outcome
from tests.faults.load import Load, Sent
from tests.faults.plugged import rebuilt
from tests.faults.poison import differs, expected, innocents
from tests.faults.wire import Connection, Connections, get, post, sample
from tests.service_kit import NAME, Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

RATE = 50.0  # requests a second
LISTS = 0.3  # of them: 2 to 8 texts
TEXTS = 40
BUNDLES = 3  # in turn
WORKERS = 2
LOOK_S = 0.02
LIMIT_S = 30.0  # for one switch
CANDIDATES = 0.25  # that cannot be served, beside each switch
SPOILT = ("a flipped byte", "a missing file", "another digest", "a task that is not served")
GROWTH = 0.05  # of the resident memory, from the first to the last tenth after a warm-up
WARM_UP = 0.2  # of the switches
LONG = 100  # so many switches: memory is judged


@dataclass
class Version:
    """What was switched to. Times in monotonic seconds."""

    digest: str
    asked: float
    acknowledged: float = math.inf  # by all workers


@dataclass
class Answer:
    """What came back for one request."""

    sent: Sent
    texts: list[str]
    rows: list[dict[str, Any]]


@dataclass
class Service:
    """One with a connection to each of its workers, and what was live in it."""

    instance: Instance
    deployments: DeploymentStore
    lines: list[Connection]
    versions: list[Version] = field(default_factory=list)
    generation: int = 0  # in the store
    serving: int = 0  # generation of the last version

    async def switch(self, digest: str) -> None:
        """Make it live, and wait until every worker says that it is. Raises TimeoutError."""
        version = Version(digest, time.monotonic())
        self.versions.append(version)
        await self._swap(digest)
        async with asyncio.timeout(LIMIT_S):
            while await self.generations() != {self.generation}:
                await asyncio.sleep(LOOK_S)
        version.acknowledged = time.monotonic()
        self.serving = self.generation

    async def refuse(self, digest: str) -> bool:
        """Ask for what cannot be served, until every worker has tried it; True where the old one is still live."""
        failed = await self._failed()
        await self._swap(digest)
        async with asyncio.timeout(LIMIT_S):
            while await self._failed() < failed + WORKERS:
                await asyncio.sleep(LOOK_S)
        return await self.generations() == {self.serving}

    async def generations(self) -> set[int]:
        """What each worker's /readyz says; -1 where it is not ready."""
        found = [await line.ask(get("/readyz")) for line in self.lines]
        return {reply.json()["generation"] if reply.status == 200 else -1 for reply in found}

    def possible(self, sent: Sent) -> set[str]:
        """What may have answered a request: all that was live at some time from its start to its end."""
        until = [*(version.acknowledged for version in self.versions[1:]), math.inf]
        both = zip(self.versions, until, strict=True)
        return {version.digest for version, end in both if version.asked <= sent.ended and sent.started <= end}

    async def _swap(self, digest: str) -> None:
        new = Deployment(NAME, 0, "promoted", digest, None, 0.0, time.time(), "a switch")
        await asyncio.to_thread(self.deployments.swap, self.generation, new)
        self.generation += 1

    async def _failed(self) -> float:
        metrics = await self.lines[0].ask(get("/metrics"))
        return sample(metrics, f'lnmt_bundle_loads_total{{model="{NAME}",outcome="failed"}}')


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` switches, then a quarter as many candidates that cannot be served, and a switch that ends it."""
    candidates = max(len(SPOILT), round(CANDIDATES * count))
    outcome = Outcome("switches of what is live", count + candidates)
    draw = random.Random(seed)
    bundles = [tiny_bundle(directory / f"bundle-{number}", seed=number) for number in range(BUNDLES)]
    project = make_service_project(directory / "project", bundles[0])
    settings = Settings(project=project)
    store = BundleStore(settings.bundles_dir)
    for bundle in bundles:
        store.put(bundle)
    texts = innocents(draw)[:TEXTS]
    wanted = {bundle.digest: expected(bundle, texts) for bundle in bundles}
    alike = [text for a, b in combinations(wanted.values(), 2) for text in texts if not differs(vars(a[text]), b[text])]
    assert not alike, "a mixture of these bundles would not be seen"
    spoilt = [(SPOILT[n % len(SPOILT)], spoil(n, bundles[0], store, directory / "spoilt")) for n in range(candidates)]
    instance = Instance(project, workers=WORKERS)
    answers: list[Answer] = []
    try:
        instance.await_ready(WORKERS)
        with DeploymentStore(settings.database_url) as deployments:
            service = Service(instance, deployments, [])
            asyncio.run(_switch_again(count, service, bundles, spoilt, texts, draw, answers, outcome, tick))
        events = {event.id: event for event in read_events(settings.events_dir)}
    finally:
        instance.kill()
    _judge(outcome, service, answers, events, wanted)
    return outcome


def spoil(number: int, bundle: Bundle, store: BundleStore, scratch: Path) -> str:
    """Keep a bundle that must not be served; the digest that a deployment would name."""
    kind = SPOILT[number % len(SPOILT)]
    task = "multi-label-classification" if kind == "a task that is not served" else bundle.manifest.task
    digest = store.put(rebuilt(bundle, scratch, task=task, evidence={"number": number}))
    shutil.rmtree(scratch)
    kept = store.path(digest)
    if kind == "a flipped byte":
        data = bytearray((kept / "model.safetensors").read_bytes())
        data[len(data) // 2] ^= 1
        (kept / "model.safetensors").write_bytes(data)
    elif kind == "a missing file":
        (kept / "tokenizer.json").unlink()
    elif kind == "another digest":
        digest = sha256_bytes(json.dumps(number).encode())
        kept.rename(store.path(digest))
    return digest


async def _switch_again(
    count: int,
    service: Service,
    bundles: Sequence[Bundle],
    spoilt: Sequence[tuple[str, str]],
    texts: Sequence[str],
    draw: random.Random,
    answers: list[Answer],
    outcome: Outcome,
    tick: Callable[[], None],
) -> None:
    workers = service.instance.workers()
    service.lines = await lines(service.instance, workers)
    memory: list[list[int]] = [[] for _ in workers]
    refused = 0
    await service.switch(bundles[0].digest)

    async def switch_in_turn() -> None:
        try:
            await switch_all()
        except TimeoutError:
            outcome.failures.append(f"after {len(service.versions)} switches: nothing happened for {LIMIT_S:g} s")

    async def switch_all() -> None:
        nonlocal refused
        for number in range(1, count + 1):
            await service.switch(bundles[number % BUNDLES].digest)
            for worker, resident in zip(workers, memory, strict=True):
                resident.append(worker.memory_info().rss)
            tick()
        for kind, digest in spoilt:
            if await service.refuse(digest):
                refused += 1
            else:
                outcome.failures.append(f"{kind}: the old one is not live any more")
            tick()
        await service.switch(bundles[(count + 1) % BUNDLES].digest)

    connections = Connections(service.instance.port)

    async def send(sent: Sent) -> None:
        listed = draw.random() < LISTS
        chosen = draw.choices(texts, k=draw.randint(2, 8) if listed else 1)
        # a connection for each, so that every worker is asked
        reply = await connections.ask(post({"text": chosen if listed else chosen[0]}, "connection: close"))
        if reply.status != 200:
            sent.failure = f"{reply.status}: {reply.body[:200].decode()}"
            return
        answers.append(Answer(sent, chosen, reply.json() if listed else [reply.json()]))

    load = Load(RATE, send)
    await load.run(switch_in_turn())
    for line in service.lines:
        line.close()
    outcome.failures += [f"a request: {sent.failure}" for sent in load.failed]
    if any(not worker.is_running() for worker in workers):
        outcome.failures.append("a worker did not live through it")
    took = [version.acknowledged - version.asked for version in service.versions if version.acknowledged < math.inf]
    outcome.figures = {
        "requests": len(load.sent),
        "failed": len(load.failed),
        "switches": count,
        "slowest switch, s": round(max(took), 2),
        "candidates refused": refused,
        "slowest answer, s": round(max(sent.ended - sent.started for sent in load.sent), 3),
    }
    _judge_memory(memory, outcome)


def _judge_memory(memory: Sequence[Sequence[int]], outcome: Outcome) -> None:
    """Each worker's resident bytes after each switch."""
    if len(memory[0]) < LONG:
        return
    steady, whole = (max(measure(resident) for resident in memory) for measure in (steady_growth, growth))
    outcome.figures |= {
        "memory of a worker, MB": round(max(resident[-1] for resident in memory) / 1e6),
        "its growth, share": round(steady, 4),
        "with what was loaded once, share": round(whole, 4),
    }
    if steady > GROWTH:
        outcome.failures.append(f"a worker's memory grew by {steady:.1%}")


def growth(resident: Sequence[int]) -> float:
    """From the first tenth after the warm-up to the last tenth, as a share of the first."""
    warm = resident[round(WARM_UP * len(resident)) :]
    tenth = len(warm) // 10
    return statistics.median(warm[-tenth:]) / statistics.median(warm[:tenth]) - 1


def steady_growth(resident: Sequence[int]) -> float:
    """What `growth` would be by the median growth of a tenth: a step that comes once is not the switches'.

    Such a step is pyarrow, which a worker loads when it first has events to compact.
    """
    warm = resident[round(WARM_UP * len(resident)) :]
    tenth = len(warm) // 10
    grown = statistics.median(b - a for a, b in zip(warm, warm[tenth:], strict=False))
    return 10 * grown / statistics.median(warm[:tenth])


async def lines(instance: Instance, workers: Sequence[psutil.Process]) -> list[Connection]:
    """A connection to each worker: new ones are opened until every worker has taken one."""
    found: dict[int, Connection] = {}
    async with asyncio.timeout(LIMIT_S):
        while len(found) < len(workers):
            line = await Connection.open(instance.port)
            await line.ask(get("/readyz"))  # now some worker has it
            for worker in workers:
                ports = {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}
                if line.own_port in ports and worker.pid not in found:
                    found[worker.pid] = line
                    break
            else:
                line.close()
    return list(found.values())


def _judge(
    outcome: Outcome,
    service: Service,
    answers: Sequence[Answer],
    events: Mapping[str, PredictionEvent],
    wanted: Mapping[str, Mapping[str, Prediction]],
) -> None:
    mixed = stale = 0
    for answer in answers:
        versions = {row["version"] for row in answer.rows}
        kept = [events.get(row["prediction_id"]) for row in answer.rows]
        if len(versions) > 1 or len({event and (event.bundle, event.generation) for event in kept}) > 1:
            mixed += 1
        if versions - service.possible(answer.sent):
            stale += 1
        for text, row, event in zip(answer.texts, answer.rows, kept, strict=True):
            if event is None or event.bundle != row["version"]:
                outcome.failures.append(f"{row['prediction_id']} has no event, or one of another bundle")
            elif (wrong := differs(row, wanted[row["version"]][text])) is not None:
                mixed += 1
                outcome.failures.append(f"not the answer of the version that it names: {wrong}")
    if mixed:
        outcome.failures.append(f"{mixed} replies of more than one version")
    if stale:
        outcome.failures.append(f"{stale} answers of a version that was not live then")
    outcome.figures |= {"answers": len(answers), "of mixed versions": mixed, "of another version than was live": stale}
