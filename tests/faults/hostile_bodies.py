"""Bodies made to hurt: each is refused at once, takes no memory, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.kit import Outcome
from tests.faults.wire import Connections, Reply, Timed, open_loop, post, quantile
from tests.service_kit import Instance, make_service_project
from tests.tiny_bundle import tiny_bundle

HUGE = 200_000_000  # bytes
PART = b"a" * 65_536
MILLION = 1_000_000
RATE = 50.0  # requests a second of the others
QUIET_S = 2.2  # of the others alone after each round, which takes as long: a busy machine is busy in both
REQUEST_S = 2.0  # the longest time for one request, which holds for its body too
SLOW = 20  # callers at once whose bodies do not end
DRIP_S = 0.2
LOOK_S = 0.02  # between two looks at the worker's memory
MEMORY = 200_000_000  # bytes that it may grow by
REFUSED_S = 1.0
SLOWER = 2.0  # than when alone, the others' p99
LONG = 10  # so many rounds: times are judged
TIMEOUT_S = 60.0  # for one reply, whatever becomes of it


@dataclass(frozen=True)
class Hostile:
    """A request: its header lines, its body in parts, and what it should get."""

    name: str
    headers: tuple[str, ...]
    parts: Callable[[], Iterator[bytes]]
    statuses: frozenset[int]


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` rounds of every hostile body, beside ordinary requests to the same worker."""
    outcome = Outcome("bodies made to hurt", 0)
    project = make_service_project(directory / "project", tiny_bundle(directory / "bundle"))
    service = Instance(project, request_timeout_s=str(REQUEST_S))
    try:
        service.await_ready()
        [worker] = service.workers()
        asyncio.run(_hurt(count, service.port, worker, random.Random(seed), outcome, tick))
    finally:
        service.kill()
    return outcome


def hostiles() -> list[Hostile]:
    """One of each kind."""
    word = b"a" * MILLION
    inside = 999_900  # characters of what is just small enough to be read
    bomb, deflated = gzip.compress(bytes(HUGE)), zlib.compress(bytes(HUGE))
    marks = json.dumps({"text": ["a" + "\u0301\u0323" * 49_999] * 4}, ensure_ascii=False).encode()
    return [
        Hostile("200 MB, chunked", ("transfer-encoding: chunked",), _endless, frozenset({413})),
        Hostile("200 MB, announced", (f"content-length: {HUGE}",), lambda: iter([PART]), frozenset({413})),
        _packed("gzip bomb", bomb, "gzip", 413),
        _packed("deflate bomb", deflated, "deflate", 413),
        _packed("gzip bomb in gzip", gzip.compress(bomb), "gzip, gzip", 415),
        _packed("cut gzip", gzip.compress(b'{"text": "a"}')[:-4], "gzip", 400),
        _plain("word of 1 M characters", b'{"text": "' + word + b'"}', 413),
        _plain("word of nearly 1 MB", b'{"text": "' + word[:inside] + b'"}', 422),
        _plain("field of nearly 1 MB", b'{"' + word[:inside] + b'": 1}', 422),
        _plain("60,000 fields", json.dumps(dict.fromkeys(map(str, range(60_000)))).encode(), 422),
        _plain("320,000 texts", json.dumps({"text": [7] * 320_000}).encode(), 422),
        _plain("330,000 lists", b'{"text": [' + b"[]," * 330_000 + b"[]]}", 422),
        _plain("330,000 objects", b'{"text": [' + b"{}," * 330_000 + b"{}]}", 422),
        _plain("330,000 empty texts", b'{"text": [' + b'"",' * 330_000 + b'""]}', 422),
        _plain("deep lists", b"[" * inside, 422),
        _plain("deep objects", b'{"text":' * 120_000, 422),
        _plain("number of 999,900 digits", b'{"text": ' + b"1" * inside + b"}", 422),
        _plain("NaN", b'{"text": NaN}', 400),
        _plain("infinity", b'{"text": 1e999}', 422),
        _plain("lone surrogate", b'{"text": "\\ud800"}', 400),
        _plain("lone surrogates", b'{"text": "' + b"\\udc00" * 90_000 + b'"}', 400),
        _plain("marks out of order", marks, 422),
        _plain("not UTF-8", b'{"text": "\xff\xfe"}', 400),
        _plain("zeros", bytes(inside), 400),
    ]


def _plain(name: str, body: bytes, status: int) -> Hostile:
    return Hostile(name, (f"content-length: {len(body)}",), lambda: iter([body]), frozenset({status}))


def _packed(name: str, body: bytes, encoding: str, status: int) -> Hostile:
    headers = (f"content-length: {len(body)}", f"content-encoding: {encoding}")
    return Hostile(name, headers, lambda: iter([body]), frozenset({status}))


def _endless() -> Iterator[bytes]:
    """200 MB in chunks."""
    chunk = b"%x\r\n%b\r\n" % (len(PART), PART)
    for _ in range(HUGE // len(PART)):
        yield chunk
    yield b"0\r\n\r\n"


async def _hurt(
    count: int, port: int, worker: psutil.Process, draw: random.Random, outcome: Outcome, tick: Callable[[], None]
) -> None:
    connections = Connections(port)
    request = post({"text": "a good film"})

    async def ask(number: int) -> Reply:
        return await connections.ask(request)

    kinds = hostiles()
    took: dict[str, float] = dict.fromkeys((kind.name for kind in kinds), 0.0)
    alone: list[Timed] = []
    beside: list[Timed] = []
    await open_loop(RATE, round(RATE * QUIET_S), draw, ask)
    settled = grown = worker.memory_info().rss

    async def attack() -> None:
        slow = [asyncio.create_task(_drip(port)) for _ in range(SLOW)]
        for kind in draw.sample(kinds, len(kinds)):
            status, seconds = await send(port, kind)
            took[kind.name] = max(took[kind.name], seconds)
            if status not in kind.statuses:
                outcome.failures.append(f"{kind.name}: status {status}, not {sorted(kind.statuses)}")
        outcome.failures += [
            f"slow body: status {status}, not 408" for status in await asyncio.gather(*slow) if status != 408
        ]
        outcome.tried += len(kinds) + SLOW

    async def watch(attacking: asyncio.Task[None]) -> None:
        nonlocal grown
        while not attacking.done():
            grown = max(grown, worker.memory_info().rss)
            await asyncio.sleep(LOOK_S)

    for _ in range(count):
        attacking = asyncio.create_task(attack())
        watching = asyncio.create_task(watch(attacking))
        while not attacking.done():
            beside += await open_loop(RATE, round(RATE / 2), draw, ask)
        await asyncio.gather(attacking, watching)
        alone += await open_loop(RATE, round(RATE * QUIET_S), draw, ask)
        tick()
    connections.close()
    _judge(outcome, alone, beside, took, grown - settled, strict=count >= LONG)


def _judge(
    outcome: Outcome, alone: list[Timed], beside: list[Timed], took: dict[str, float], grown: int, *, strict: bool
) -> None:
    failed = [one for one in [*alone, *beside] if one.status != 200]
    outcome.failures += [f"another's request: {one.failure or one.status}" for one in failed]
    usual, then = (quantile([one.seconds for one in found], 0.99) for found in (alone, beside))
    slowest = max(took, key=lambda name: took[name])
    outcome.figures = {
        "kinds": len(took),
        "slowest refusal, ms": round(took[slowest] * 1000, 1),
        "of the kind": slowest,
        "memory grown by, MB": round(grown / 1e6, 1),
        "others' requests": len(beside),
        "others' p99 alone, ms": round(usual * 1000, 1),
        "others' p99 meanwhile, ms": round(then * 1000, 1),
    }
    if grown > MEMORY:
        outcome.failures.append(f"the worker grew by {grown / 1e6:.0f} MB")
    if strict and then > SLOWER * usual:
        outcome.failures.append(f"others' p99 was {usual * 1000:.1f} ms, and {then * 1000:.1f} ms meanwhile")
    if strict:
        outcome.failures += [f"{name}: refused after {s:.1f} s" for name, s in took.items() if s > REFUSED_S]


async def send(port: int, kind: Hostile) -> tuple[int, float]:
    """The reply's status (0: none came) and how long it took; nothing more is sent once it is there."""
    loop = asyncio.get_running_loop()
    with socket.socket() as line:
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", port))
        began = time.monotonic()

        async def write() -> None:
            with suppress(ConnectionError):  # the reply came before, and tells why
                await loop.sock_sendall(line, _head(*kind.headers))
                for part in kind.parts():
                    await loop.sock_sendall(line, part)

        writing = asyncio.create_task(write())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await loop.sock_recv(line, 65_536)
        except (OSError, TimeoutError):
            reply = b""
        writing.cancel()
        await asyncio.wait([writing])
    return int(reply[9:12] or 0), time.monotonic() - began


def _head(*headers: str) -> bytes:
    """Of a request with a body."""
    named = ("host: x", "content-type: application/json", *headers)
    return "\r\n".join(["POST /predict HTTP/1.1", *named, "", ""]).encode()


async def _drip(port: int) -> int:
    """The status that a body gets which comes byte by byte, and would take for ever."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n"
    )
    reply = asyncio.create_task(reader.readline())
    while not reply.done():
        writer.write(b" ")
        await asyncio.wait([reply], timeout=DRIP_S)
    writer.transport.abort()
    return int(reply.result()[9:12] or 0)
