"""One key with a rate, and callers who pretend to be others: they get what the key may have, over all workers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from lnmt.security.peppers import open_peppers
from lnmt.security.table import KeyTable
from lnmt.serving.rate.bucket import Rate
from tests.faults.kit import Outcome
from tests.faults.wire import Connection, Reply, closed_loop, post
from tests.service_kit import Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

WORKERS = 4
RATE = Rate.of(20.0)  # requests a second of the key
MORE = 0.01  # share above the limit that may pass
CLIENTS = 16
PART = 100  # requests between two ticks

# Spellings of the one route. Those that the router takes for it must count, and no other may be answered.
PATHS = ("/predict", "/predict/", "//predict", "/Predict", "/PREDICT", "/%70redict", "/predict?a={0}", "/./predict")
# Headers that say who asks, and that a caller can write.
SPOOFED = (
    "x-forwarded-for: {0}",
    "X-Forwarded-For: 127.0.0.1, {0}",
    "x-real-ip: {0}",
    "forwarded: for={0};proto=https",
    "cf-connecting-ip: {0}",
    "true-client-ip: {0}",
    "x-forwarded-host: {0}",
    "x-request-id: {0}",
    "user-agent: {0}",
)
CREDENTIALS = ("authorization: Bearer {0}", "Authorization: bearer {0}", "x-api-key: {0}", "X-API-KEY: {0}")


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` requests, each on a connection of its own, so that every worker gets some."""
    outcome = Outcome("a rate, and spoofed callers", count)
    project = make_service_project(directory / "project", tiny_bundle(directory / "bundle"))
    state = project / ".lnmt"
    state.mkdir()
    with KeyTable(f"sqlite:///{state / 'lnmt.db'}") as keys:
        _, key = keys.add("spoof", "predictor", open_peppers(None, state), rate_per_s=RATE.per_s)
    service = Instance(project, workers=WORKERS, auth="true")
    try:
        service.await_ready(WORKERS)
        _await_key(service, key)
        asyncio.run(_spoof(count, service.port, key, random.Random(seed), outcome, tick))
    finally:
        service.kill()
    return outcome


def _await_key(service: Instance, key: str) -> None:
    """Until workers know it; each refuses it until its first look at the table."""
    known = 0
    while known < 20 * WORKERS:
        status = httpx.get(f"{service.url}/v2/models/none", headers={"X-API-Key": key}, trust_env=False).status_code
        known = 0 if status == 401 else known + 1


async def _spoof(
    count: int, port: int, key: str, draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> None:
    statuses: Counter[int] = Counter()
    began = time.monotonic()

    async def ask(number: int) -> Reply:
        connection = await Connection.open(port)
        try:
            return await connection.ask(spoofed(draw, key))
        finally:
            connection.close()

    for start in range(0, count, PART):
        found = await closed_loop(CLIENTS, range(start, min(start + PART, count)), ask)
        statuses.update(one.status for one in found)
        for one in found:
            if one.status == 429 and one.reply is not None and not (one.reply.header("retry-after") or "").isdigit():
                outcome.failures.append("429 without Retry-After")
        tick()
    seconds = time.monotonic() - began
    allowed = statuses[200]
    limit = RATE.burst + RATE.per_s * seconds
    outcome.figures = {
        "seconds": round(seconds, 1),
        "limit": round(limit, 1),
        "allowed": allowed,
        "allowed, share of the limit": round(allowed / limit, 3),
        "refused": statuses[429],
        "no such route": statuses[404],
    }
    outcome.failures += [f"{statuses[status]} × status {status}" for status in statuses.keys() - {200, 404, 429}]
    if allowed > limit * (1 + MORE):
        outcome.failures.append(f"{allowed} were allowed, at most {limit:.1f} may be")
    if not statuses[429]:
        outcome.failures.append("the limit was never reached, so nothing was shown")


def spoofed(draw: random.Random, key: str) -> bytes:
    """A request of the key's holder that looks like someone else's."""
    address = ".".join(str(draw.randint(1, 254)) for _ in range(4))
    headers = [header.format(address) for header in draw.sample(SPOOFED, draw.randint(1, len(SPOOFED)))]
    path = "/predict" if draw.random() < 0.5 else draw.choice(PATHS).format(address)
    return post({"text": "a good film"}, *headers, draw.choice(CREDENTIALS).format(key), path=path)
