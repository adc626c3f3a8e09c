"""Five times what an engine can take: that much is answered, about as fast as before; the rest is refused at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.kit import Outcome
from tests.faults.plugged import make_plugged_project, rebuilt
from tests.faults.wire import Connections, Reply, Timed, capacity, open_loop, post, quantile
from tests.service_kit import Instance
from tests.tiny_bundle import tiny_bundle

ENGINE = {"batch_s": 0.04, "row_s": 0.005, "log": None}  # a full batch takes 80 ms: about 100 texts a second
BATCH_ROWS = 8
WAITING_ROWS = 16  # two batches: who is accepted waits for 0.25 s at most
USUAL, FLOOD = 0.8, 5.0  # of the capacity
BACK_S = 2.0  # after a flood all is as before
REFUSED = frozenset({429, 503})

# What is promised. Times are judged after floods of LONG_S alone: a p99 of few requests says little.
LONG_S = 20
GOODPUT = 0.9  # of the capacity
SLOWER = 2.0  # than the usual p99, those that are accepted
REFUSED_S = 0.05  # p99
RECOVERED = 1.2  # of the usual p99


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` seconds of a flood, with an ordinary time before and after it."""
    outcome = Outcome(f"{FLOOD:g} times the load", 0)
    bundle = rebuilt(tiny_bundle(directory / "plain"), directory / "slow", engine="slow")
    project = make_plugged_project(directory / "project", bundle, "slow_engine", ENGINE)
    service = Instance(project, max_batch_size=str(BATCH_ROWS), max_waiting_rows=str(WAITING_ROWS))
    try:
        service.await_ready()
        asyncio.run(_flood(count, service.port, seed, outcome, tick))
    finally:
        service.kill()
    return outcome


async def _flood(seconds: int, port: int, seed: int, outcome: Outcome, tick: Callable[[], None]) -> None:
    connections = Connections(port)
    request = post({"text": "a good film"})
    usual_s = max(3.0, seconds / 3)

    async def ask(number: int) -> Reply:
        return await connections.ask(request)

    await capacity(connections, WAITING_ROWS, 1.0, request)  # the service learns what a batch takes
    able = await capacity(connections, WAITING_ROWS, usual_s / 2, request)
    tick()

    async def load(share: float, for_s: float, seed: int) -> list[Timed]:
        found = await open_loop(share * able, round(share * able * for_s), random.Random(seed), ask)
        tick()
        return found

    before = await load(USUAL, usual_s, seed)
    flood = await load(FLOOD, seconds, seed + 1)
    await load(USUAL, BACK_S, seed + 2)
    after = await load(USUAL, usual_s, seed)  # at the same moments as before
    connections.close()
    outcome.tried = len(flood)
    _judge(outcome, able, seconds, before, flood, after)


def _judge(
    outcome: Outcome,
    able: float,
    seconds: float,
    before: Sequence[Timed],
    flood: Sequence[Timed],
    after: Sequence[Timed],
) -> None:
    for what, found in (("before", before), ("in the flood", flood), ("after", after)):
        outcome.failures += [f"{what}: {wrong}" for wrong in _wrong(found)]
    accepted = [one for one in flood if one.status == 200]
    refused = [one.seconds for one in flood if one.status in REFUSED]
    ends = flood[-1].due
    goodput = sum(one.ended <= ends for one in accepted) / seconds / able
    usual, slower, again = (quantile([one.seconds for one in found], 0.99) for found in (before, accepted, after))
    refused_s = quantile(refused, 0.99) if refused else 0.0
    outcome.figures = {
        "capacity, 1/s": round(able, 1),
        "sent, 1/s": round(len(flood) / seconds, 1),
        "goodput, share of the capacity": round(goodput, 3),
        f"p99 at {USUAL:g} of the capacity, ms": _ms(usual),
        "p99 of accepted ones, ms": _ms(slower),
        "p99 of refusals, ms": _ms(refused_s),
        "refused": len(refused),
        f"refused at {USUAL:g} of the capacity": sum(one.status in REFUSED for one in [*before, *after]),
        f"p99 {BACK_S:g} s later, ms": _ms(again),
    }
    if seconds < LONG_S:
        return
    for broken, text in (
        (goodput < GOODPUT, f"goodput is {goodput:.2f} of the capacity"),
        (slower > SLOWER * usual, f"accepted ones took {_ms(slower)} ms, usual are {_ms(usual)} ms"),
        (refused_s > REFUSED_S, f"refusals took {_ms(refused_s)} ms"),
        (again > RECOVERED * usual, f"{BACK_S:g} s later it took {_ms(again)} ms, usual are {_ms(usual)} ms"),
    ):
        if broken:
            outcome.failures.append(text)


def _wrong(found: Sequence[Timed]) -> list[str]:
    """What was neither answered nor refused as promised, by kind."""
    kinds: Counter[str] = Counter()
    for one in found:
        if one.reply is None:
            kinds[f"{one.failure}"] += 1
        elif one.status in REFUSED and not (one.reply.header("retry-after") or "").isdigit():
            kinds[f"{one.status} without Retry-After"] += 1
        elif one.status != 200 and one.status not in REFUSED:
            kinds[f"status {one.status}"] += 1
    return [f"{count} × {kind}" for kind, count in kinds.items()]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
