"""Whatever paths are asked for, `/metrics` has the same series: `make soak` asks for more of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from urllib.parse import quote

from starlette.types import Message

from tests.serving.conftest import Kit

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "BREW", "get")
PARTS = ["predict", "v2", "models", "..", ".", "", "%00", "é", "\u2028", "metrics", "infer", "a" * 200, "{name}", ";x"]
PARTS += ["versions", "ready"]
PATHS = 2_000


def random_paths(seed: int, count: int) -> Iterable[str]:
    draw = random.Random(seed)
    for number in range(count):
        parts = draw.choices(PARTS, k=draw.randint(0, 5))
        parts.insert(draw.randint(0, len(parts)), f"r{number}")
        yield "/" + "/".join(parts) + draw.choice(["", "/", "?x=1"])


async def ask(kit: Kit, method: str, target: str) -> int:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"x")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3000),
    }
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await kit.app(scope, receive, send)
    [status] = statuses
    return status


def series(kit: Kit) -> set[str]:
    lines = kit.metrics.render().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_random_paths_make_no_series(kit: Kit) -> None:
    async def ask_all(paths: Iterable[str]) -> set[int]:
        return {await ask(kit, METHODS[number % len(METHODS)], path) for number, path in enumerate(paths)}

    async def each_kind() -> None:
        for method in METHODS:
            for model in ("/v2/models/nope", "/v2/models/nope/versions/nope"):
                for path in (model, f"{model}/ready", f"{model}/infer"):
                    await ask(kit, method, path)
            await ask(kit, method, "/nope")

    asyncio.run(each_kind())
    before = series(kit)
    statuses = asyncio.run(ask_all(random_paths(7, PATHS)))
    assert statuses <= {404, 405, 415, 400, 422}
    assert 404 in statuses
    assert series(kit) == before
