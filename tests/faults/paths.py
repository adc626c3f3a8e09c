"""Random paths, methods and names: the metrics have as many series after them as before."""

from __future__ import annotations

import asyncio
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from tests.faults.kit import Outcome
from tests.faults.wire import Connections, Reply, closed_loop, get
from tests.service_kit import NAME, Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

# HEAD is not among them: this client would wait for its body.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCOL", "M-SEARCH")
CLIENTS = 16
PART = 1000  # requests between two ticks
BACKGROUND = "lnmt_event_store_bytes"  # comes with the first compaction, whatever is asked
# Ways to name something that is not there: {0} is drawn, and another one each time.
UNKNOWN = (
    "/{0}",
    "/{0}/{0}",
    "/predict/{0}",
    "/predict;{0}",
    "/PREDICT{0}",
    "/%2e%2e/{0}",
    "/../../{0}",
    "//{0}//",
    "/metrics/{0}?{0}={0}",
    "/v2/{0}",
    "/v2/models/{0}/{0}",
    "/v2/models/{0}/versions/{0}/{0}",
    f"/v2/models/{NAME}/versions/{{0}}",
    "/models/{0}",
)


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` requests, each with a name of its own."""
    outcome = Outcome("random paths", count)
    service = Instance(make_service_project(directory / "project", tiny_bundle(directory / "bundle")))
    try:
        service.await_ready()
        spec = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
        named = [path.format(name="{0}", version="{0}") for path in spec["paths"] if "{name}" in path]
        asyncio.run(_wander(count, service.port, [*UNKNOWN, *named], random.Random(seed), outcome, tick))
    finally:
        service.kill()
    return outcome


async def _wander(
    count: int, port: int, forms: list[str], draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> None:
    connections = Connections(port)
    statuses: Counter[int] = Counter()

    async def ask(requests: Iterator[bytes]) -> None:
        found = await closed_loop(CLIENTS, requests, connections.ask)
        statuses.update(one.status for one in found)
        outcome.failures += [f"no reply: {one.failure}" for one in found if one.reply is None]

    await ask(request(method, form, "plain") for method in METHODS for form in forms)  # each kind once
    await connections.ask(get("/metrics"))  # it counts itself
    before = series(await connections.ask(get("/metrics")))
    for start in range(0, count, PART):
        number = min(PART, count - start)
        await ask(request(draw.choice(METHODS), draw.choice(forms), drawn(draw)) for _ in range(number))
        tick()
    after = series(await connections.ask(get("/metrics")))
    connections.close()
    outcome.failures += [f"a new series: {name}" for name in sorted(after - before)]
    outcome.failures += [f"{number} × status {status}" for status, number in statuses.items() if status >= 500]
    outcome.figures = {
        "series before": len(before),
        "series after": len(after),
        **{f"status {status}": number for status, number in sorted(statuses.items())},
    }


def drawn(draw: random.Random) -> str:
    """A name that was never there."""
    return "".join(draw.choices(string.printable + "äß中🙂\u0301\ud7ff", k=draw.randint(1, 40)))


def request(method: str, form: str, name: str) -> bytes:
    """Without a body, to a path of this form."""
    return get(form.format(quote(name, safe="")), "content-length: 0").replace(b"GET", method.encode(), 1)


def series(metrics: Reply) -> set[str]:
    """The names and labels that /metrics has."""
    lines = metrics.body.decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith(("#", BACKGROUND))}
