"""Uvicorn with our bounds, asked over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lnmt.serving.deadline import gone
from lnmt.serving.lifecycle import STARTING, Lifecycle
from lnmt.serving.problems import Problem
from lnmt.serving.processes import http
from lnmt.serving.processes.attendant import Attendant
from lnmt.serving.processes.board import Board, Phase, State
from lnmt.serving.processes.sockets import listening

Found = TypeVar("Found")


class Kit:
    """A server with its attendant, in the test's own loop."""

    def __init__(self, drain_s: float) -> None:
        self.board = Board.create(2)
        self.board.wanted = 1
        self.lifecycle = Lifecycle(self.board)
        self.lifecycle.ready_when(self._check)
        self.problem: Problem | None = None
        self.held = asyncio.Event()  # what /slow waits for
        self.begun = asyncio.Event()
        self.orphaned = threading.Event()
        app = Starlette(
            routes=[
                Route("/", self._length, methods=["GET", "POST"]),
                Route("/slow", self._slow),
                Route("/left", self._left),
            ]
        )
        self.server = http.make_server(app, self.lifecycle.begin_leave, finish_s=60, tls=None)
        self.attendant = Attendant(self.server, self.lifecycle, self.board, 0, drain_s=drain_s, orphaned=self.orphaned)
        self.listener = listening("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]

    async def ask(self, data: bytes) -> bytes:
        """All that comes back on a connection of its own, until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        found = await reader.read()
        writer.close()
        return found

    async def _length(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def _slow(self, request: Request) -> Response:
        self.begun.set()
        await self.held.wait()
        return PlainTextResponse("done")

    async def _left(self, request: Request) -> Response:
        left = gone(request.scope)
        assert left is not None
        self.begun.set()
        await left
        self.held.set()
        return PlainTextResponse("nobody reads this")

    def _check(self) -> None:
        if self.problem is not None:
            raise self.problem


def serving(talk: Callable[[Kit], Awaitable[Found]], *, drain_s: float = 0.0, problem: Problem | None = None) -> Found:
    """What `talk` finds out of a server; the server must have ended by itself, or is ended."""

    async def run() -> Found:
        kit = Kit(drain_s)
        kit.problem = problem
        served = asyncio.create_task(kit.attendant.serve(kit.listener))
        try:
            while not kit.server.started:
                await asyncio.sleep(0.01)
            found = await talk(kit)
            kit.board.phase = Phase.STOPPING
            await served
            return found
        finally:
            kit.server.should_exit = kit.server.force_exit = True  # a test that fails ends too
            await served
            kit.board.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def request(path: str = "/", body: bytes = b"", headers: str = "connection: close\r\n") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def test_requests_are_answered_however_they_come() -> None:
    async def talk(kit: Kit) -> tuple[bytes, bytes, list[bytes]]:
        whole = await kit.ask(request(body=b"x" * 300_000))
        pipelined = await kit.ask(request(headers="") + request(body=b"abc", headers="") + request(body=b"abcd"))
        reader, writer = await asyncio.open_connection("127.0.0.1", kit.port)
        bodies = []
        for size in (5, 6):  # one connection, byte by byte
            for byte in request(body=b"y" * size, headers=""):
                writer.write(bytes([byte]))
                await writer.drain()
            bodies.append((await reader.readuntil(b"\r\n\r\n"), await reader.readexactly(1))[1])
        writer.close()
        return whole, pipelined, bodies

    whole, pipelined, bodies = serving(talk)
    assert whole.endswith(b"\r\n\r\n300000")
    assert [part[:1] for part in pipelined.split(b"\r\n\r\n")[1:]] == [b"0", b"3", b"4"]
    assert bodies == [b"5", b"6"]
    assert b"server:" not in whole.lower()


def test_endless_headers_are_refused() -> None:
    async def talk(kit: Kit) -> tuple[bytes, bytes]:
        one = await kit.ask(b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000)
        many = await kit.ask(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000)
        return one, many

    for found in serving(talk):
        assert found.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n", request(body=b"abc")[:-1], b"\r\n"],
    ids=["nothing", "a part of a line", "no end of headers", "a part of the body", "no request"],
)
def test_what_never_comes_whole_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(http, "READ_S", 0.1)

    async def talk(kit: Kit) -> bytes:
        try:
            return await kit.ask(data)
        except ConnectionResetError:
            return b""

    assert serving(talk) == b""


def test_a_slow_answer_and_an_idle_connection_are_not_taken_for_a_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_S", 0.05)

    async def talk(kit: Kit) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", kit.port)
        writer.write(request(body=b"abc", headers=""))
        await reader.readuntil(b"\r\n\r\n3")
        slow = asyncio.create_task(kit.ask(b"GET /slow HTTP/1.1\r\nconnection: close\r\n\r\n"))
        await kit.begun.wait()
        stalled = kit.server.close_stalled(asyncio.get_running_loop().time() + 3600)
        kit.held.set()
        found = await slow
        writer.write(request(body=b"abcd"))
        assert (await reader.read()).endswith(b"\r\n\r\n4")
        writer.close()
        return stalled, found

    stalled, found = serving(talk)
    assert stalled == 0
    assert found.endswith(b"done")


def test_a_caller_who_hangs_up_is_known_to_have_gone() -> None:
    async def talk(kit: Kit) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", kit.port)
        writer.write(b"GET /left HTTP/1.1\r\n\r\n")
        await kit.begun.wait()
        assert not kit.held.is_set()
        writer.close()
        await asyncio.wait_for(kit.held.wait(), 10)
        return await kit.ask(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")

    assert serving(talk).endswith(b"\r\n\r\n0")


def test_connections_beyond_the_bound_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 1)

    async def talk(kit: Kit) -> bool:
        _, first = await asyncio.open_connection("127.0.0.1", kit.port)
        while not kit.server.server_state.connections:
            await asyncio.sleep(0.01)
        try:
            refused = await kit.ask(request()) == b""
        except ConnectionResetError:
            refused = True
        first.close()
        return refused

    assert serving(talk)


def test_the_board_tells_how_the_worker_is() -> None:
    async def talk(kit: Kit) -> None:
        while kit.board.state(0) is not State.READY:
            await asyncio.sleep(0.01)
        kit.problem = Problem(503, "no model released yet", fix="lnmt release")
        while kit.board.state(0) is not State.UP:
            await asyncio.sleep(0.01)
        assert kit.board.reason(0) == "no model released yet: lnmt release"
        assert kit.board.beats(0) > 1

    serving(talk)


def test_what_was_accepted_is_finished_when_the_service_stops() -> None:
    async def talk(kit: Kit) -> tuple[bytes, bool]:
        slow = asyncio.create_task(kit.ask(b"GET /slow HTTP/1.1\r\n\r\n"))
        await kit.begun.wait()
        kit.board.phase = Phase.STOPPING
        while not kit.server.should_exit:
            await asyncio.sleep(0.01)
        beats = kit.board.beats(0)
        while kit.board.beats(0) < beats + 3:  # it lives while it ends
            await asyncio.sleep(0.01)
        kit.held.set()
        found = await slow
        try:
            await kit.ask(request())
        except OSError:
            return found, True
        return found, False

    found, refused = serving(talk)
    assert found.endswith(b"done")
    assert refused


def test_a_worker_that_leaves_serves_its_connections_and_accepts_until_another_is_ready() -> None:
    async def talk(kit: Kit) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", kit.port)
        while not kit.server.server_state.connections:
            await asyncio.sleep(0.01)
        kit.server.handle_exit(15, None)
        while kit.board.state(0) is not State.LEAVING:
            await asyncio.sleep(0.01)
        assert (await kit.ask(request())).endswith(b"0"), "nobody else is there"
        kit.board.set_state(1, State.READY)
        refused = False
        while not refused:
            try:
                await kit.ask(request())
            except OSError:
                refused = True
        writer.write(request(body=b"abc"))
        found = await reader.read()
        writer.close()
        return found

    assert serving(talk, drain_s=3600).endswith(b"3")


def test_a_worker_without_a_supervisor_ends_by_itself() -> None:
    async def talk(kit: Kit) -> None:
        kit.orphaned.set()
        while not kit.server.should_exit:
            await asyncio.sleep(0.01)

    serving(talk, drain_s=3600)


@pytest.mark.parametrize(
    ("phase", "left_s", "others_ready", "orphaned", "closes"),
    [
        (Phase.SERVING, None, True, False, False),
        (Phase.SERVING, 0.0, True, False, True),
        (Phase.SERVING, 0.0, False, False, False),
        (Phase.SERVING, 11.0, False, False, True),
        (Phase.DRAINING, None, True, False, False),
        (Phase.DRAINING, 11.0, True, False, False),
        (Phase.STOPPING, None, False, False, True),
        (Phase.SERVING, None, False, True, True),
    ],
)
def test_when_a_worker_stops_accepting(
    phase: Phase, left_s: float | None, others_ready: bool, orphaned: bool, closes: bool
) -> None:
    async def decide() -> bool:
        kit = Kit(drain_s=5.0)
        kit.listener.close()
        kit.board.phase = phase
        if others_ready:
            kit.board.set_state(1, State.READY)
        kit.lifecycle.leaving_since = None if left_s is None else 100.0 - left_s
        if orphaned:
            kit.orphaned.set()
        found = kit.attendant.should_close(100.0, accepts=True)
        kit.board.close()
        return found

    assert asyncio.run(decide()) is closes


LOADING = Problem(503, STARTING, fix="wait")
NOTHING = Problem(503, "no model released yet", fix="lnmt release")


@pytest.mark.parametrize(
    ("problem", "other", "age_s", "accepts"),
    [
        (None, State.READY, 0.1, True),
        (LOADING, State.EMPTY, 0.1, False),
        (LOADING, State.EMPTY, 9.9, False),
        (LOADING, State.EMPTY, 10.0, True),
        (LOADING, State.READY, 60.0, False),
        (LOADING, State.LEAVING, 60.0, False),
        (LOADING, State.UP, 60.0, False),
        (NOTHING, State.EMPTY, 0.1, True),
        (NOTHING, State.READY, 60.0, False),
    ],
)
def test_when_a_worker_begins_to_accept(problem: Problem | None, other: State, age_s: float, accepts: bool) -> None:
    async def decide() -> bool:
        kit = Kit(drain_s=5.0)
        kit.listener.close()
        kit.board.set_state(1, other)
        found = kit.attendant.may_accept(problem, age_s)
        kit.board.close()
        return found

    assert asyncio.run(decide()) is accepts


def test_a_worker_that_never_accepted_ends_at_once() -> None:
    async def talk(kit: Kit) -> None:
        kit.lifecycle.begin_leave()
        while not kit.server.should_exit:
            await asyncio.sleep(0.01)

    serving(talk, drain_s=3600, problem=LOADING)
