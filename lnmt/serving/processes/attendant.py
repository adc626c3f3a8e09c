"""What runs beside the server in a worker's event loop: its pulse, what it says of itself, its start and its end."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

from lnmt.serving.lifecycle import STARTING, Lifecycle
from lnmt.serving.problems import Problem
from lnmt.serving.processes.board import Board, Phase, State
from lnmt.serving.processes.http import Server

TICK_S = 0.05
ALONE_S = 10.0  # a worker that still loads accepts after this where no other is ready: liveness must be answered
LINGER_S = 1.0  # at the end of the service: for requests on connections that were accepted last
REPLACED_S = 10.0  # a worker that was told to leave accepts so long at most, until another one is ready
SWEEP_TICKS = 20  # between two looks for stalled connections


def _settle() -> None:
    """The start is over: collect again, but not what it made. A look through that holds requests up for 0.2 s."""
    gc.freeze()
    gc.enable()


class Attendant:
    """Serves with one `Server`, beats on the board meanwhile, and ends the server when it is time.

    It accepts once it has something to serve: until then other workers do, or the backlog holds what comes. The
    service ends in two phases, see `Phase`. A worker that alone is told to leave stops accepting as soon as
    another one is ready, gives its open connections `drain_s` to send what they were about to, and ends. One
    whose supervisor is gone stops accepting at once, so that the address is free, and finishes what it has.
    """

    def __init__(
        self,
        server: Server,
        lifecycle: Lifecycle,
        board: Board,
        seat: int,
        *,
        drain_s: float,
        orphaned: threading.Event,
    ) -> None:
        self._server = server
        self._lifecycle = lifecycle
        self._board = board
        self._seat = seat
        self._drain_s = drain_s
        self._orphaned = orphaned
        self._said = ""

    async def serve(self, listener: socket.socket) -> None:
        """Until the worker has ended in order."""
        beside = asyncio.create_task(self._attend(listener))
        beside.add_done_callback(self._end)
        try:
            await self._server.serve(sockets=[])  # it accepts when the attendant says so
        finally:
            listener.close()
            if not beside.cancel():
                beside.result()  # it failed, and that ended the server

    def _end(self, _: asyncio.Task[None]) -> None:
        self._server.should_exit = True

    async def _attend(self, listener: socket.socket) -> None:
        """Beat until cancelled: also while the server ends, which may take a while."""
        began, ticks = time.monotonic(), 0
        accepts, ends = False, None
        while True:
            self._board.beat(self._seat)
            if self._lifecycle.leaving_since is not None:  # first: it is no other worker that is ready
                self._board.set_state(self._seat, State.LEAVING)
            now, problem = time.monotonic(), self._lifecycle.not_ready()
            if self._server.started and ends is None:
                if self.should_close(now, accepts):
                    self._server.stop_accepting()
                    ends = now + self._linger_s()
                elif not accepts and self.may_accept(problem, now - began):
                    _settle()
                    await self._server.start_accepting(listener)
                    accepts = True
                elif not gc.isenabled() and now - began >= ALONE_S:  # it may try for ever, beside another that is ready
                    _settle()
            self._tell(problem, accepts)
            if ends is not None and (now >= ends or not self._server.server_state.connections):
                self._server.should_exit = True
            ticks += 1
            if ticks % SWEEP_TICKS == 0:
                self._server.close_stalled(asyncio.get_running_loop().time())
            await asyncio.sleep(TICK_S)

    def may_accept(self, problem: Problem | None, age_s: float) -> bool:
        """Whether a worker of this age, not ready for this problem, should take requests."""
        if problem is None:
            return True
        if self._board.accepting > 0:
            return False
        return problem.body["error"] != STARTING or age_s >= ALONE_S

    def should_close(self, now: float, accepts: bool) -> bool:
        """Whether it is time to accept nothing more."""
        if self._orphaned.is_set() or self._board.phase is Phase.STOPPING:
            return True
        since = self._lifecycle.leaving_since
        if since is None or (self._board.phase is Phase.DRAINING and accepts):
            return False
        return not accepts or self._board.ready > 0 or now >= since + REPLACED_S

    def _linger_s(self) -> float:
        """How long open connections may still send requests."""
        leaves_alone = self._board.phase is Phase.SERVING and not self._orphaned.is_set()
        return self._drain_s if leaves_alone else min(LINGER_S, self._drain_s)

    def _tell(self, problem: Problem | None, accepts: bool) -> None:
        """Put on the board how this worker is."""
        if self._lifecycle.leaving_since is not None or not accepts:
            return
        if problem is None:
            self._board.set_state(self._seat, State.READY)
        else:
            reason = f"{problem.body['error']}: {problem.body['fix']}"
            if reason != self._said:
                self._board.say(self._seat, reason)
                self._said = reason
            self._board.set_state(self._seat, State.UP)
