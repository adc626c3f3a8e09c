"""HTTP/1.1 over kept connections, from bytes made beforehand: a client that costs little beside what it measures."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from tests.faults.load import TIMEOUT_S

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What came back. `head` is in lower case."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, None where there is none. `name` in lower case."""
        _, found, rest = self.head.partition(f"\r\n{name}: ".encode())
        return rest.partition(b"\r\n")[0].decode() if found else None

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


@dataclass
class Timed:
    """One request. Times in monotonic seconds."""

    due: float  # when it was to be sent
    ended: float = 0.0
    reply: Reply | None = None
    failure: str | None = None  # why there is no reply

    @property
    def status(self) -> int:
        """Of the reply; 0 without one."""
        return 0 if self.reply is None else self.reply.status

    @property
    def seconds(self) -> float:
        """From when it was due: a client that is late flatters nobody."""
        return self.ended - self.due


def post(value: object, *headers: str, path: str = "/predict") -> bytes:
    """A request with a JSON body."""
    body = json.dumps(value).encode()
    named = ("host: x", "content-type: application/json", f"content-length: {len(body)}", *headers)
    return "\r\n".join([f"POST {path} HTTP/1.1", *named, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


class Connection:
    """One to a port of loopback, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """A new one."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def own_port(self) -> int:
        """This side's."""
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def ask(self, request: bytes) -> Reply:
        """Raises OSError or EOFError where the connection ends before the reply does."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        reply = Reply(int(head[9:12]), head, b"")
        length = reply.header("content-length")
        return Reply(reply.status, head, await self._reader.readexactly(int(length or 0)))

    async def begin(self, data: bytes) -> None:
        """Send a part of a request, or all of it, and wait for nothing."""
        self._writer.write(data)
        await self._writer.drain()

    def hang_up(self) -> None:
        """Leave at once."""
        self._writer.transport.abort()

    def close(self) -> None:
        """End it."""
        self._writer.close()


class Connections:
    """As many connections to one port as requests are on their way, each used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []

    async def ask(self, request: bytes) -> Reply:
        """As `Connection.ask`."""
        connection = self._free.pop() if self._free else await Connection.open(self._port)
        try:
            reply = await connection.ask(request)
        except BaseException:
            connection.hang_up()
            raise
        if reply.header("connection") == "close":
            connection.close()
        else:
            self._free.append(connection)
        return reply

    def close(self) -> None:
        """End those that are free."""
        while self._free:
            self._free.pop().close()


async def open_loop(
    rate: float, count: int, draw: random.Random, send: Callable[[int], Awaitable[Reply]]
) -> list[Timed]:
    """`count` requests at random moments, `rate` a second (a Poisson process), whatever becomes of those before."""
    found: list[Timed] = []
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due += draw.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            found.append(Timed(due))
            group.create_task(_time(found[-1], send(number)))
    return found


async def closed_loop(clients: int, requests: Iterable[T], send: Callable[[T], Awaitable[Reply]]) -> list[Timed]:
    """One entry a request, in their order: each of so many clients sends the next one when its last is answered."""
    found: list[Timed] = []
    turns = iter(requests)

    async def client() -> None:
        for request in turns:
            found.append(one := Timed(time.monotonic()))
            await _time(one, send(request))

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def capacity(connections: Connections, clients: int, seconds: float, request: bytes) -> float:
    """Answers a second to so many clients that ask again and again."""
    ends = time.monotonic() + seconds

    def until_then() -> Iterable[bytes]:
        while time.monotonic() < ends:
            yield request

    found = await closed_loop(clients, until_then(), connections.ask)
    return sum(one.status == 200 and one.ended <= ends for one in found) / seconds


def quantile(values: Sequence[float], share: float) -> float:
    """Of at least one value."""
    return float(np.quantile(values, share))


def sample(metrics: Reply, series: str) -> float:
    """A series of /metrics, written as there; 0 where there is none."""
    found = (line.rpartition(" ") for line in metrics.body.decode().splitlines())
    return next((float(value) for name, _, value in found if name == series), 0.0)


async def _time(one: Timed, work: Awaitable[Reply]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            one.reply = await work
    except (OSError, EOFError) as error:  # TimeoutError is an OSError
        one.failure = f"{type(error).__name__}: {error}"
    one.ended = time.monotonic()
