"""The process that keeps the workers alive: starts them, replaces those that die or hang, ends them in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lnmt.errors import LnmtError
from lnmt.observability.logging import get_logger
from lnmt.serving.processes.board import END_S, Board, Phase, State

log = get_logger(__name__)

POLL_S = 0.05
DUMP_S = 0.3  # for a hung worker to write where it is
YOUNG_S = 1.0  # a worker that answered for less than this died young
BACKOFF_S, MOST_BACKOFF_S = 0.5, 30.0
ATTEMPTS = 3  # to start a first worker


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits, in seconds."""

    drain: float = 5.0  # between failing readiness and closing the socket
    end: float = END_S  # from the first signal until what still runs is killed
    hang: float = 15.0  # without a beat of a worker's event loop
    start: float = 120.0  # until a worker's event loop runs


@dataclass
class Worker:
    """A process, and what was seen of it."""

    process: subprocess.Popen[bytes]
    seat: int
    up_at: float | None = None  # when it was first seen to answer; monotonic seconds
    beats: int = 0
    still: int = 0  # looks since its last beat


class Supervisor:
    """Keeps `workers` processes of `command` alive around one listening socket, until told to end.

    The command gets `--socket`, `--board`, `--lifeline` (descriptors) and `--seat`. The supervisor never accepts:
    while no worker does, connections wait in the socket's backlog. `tell(reason)` is called when the reason why the
    service is not ready is another, `tell(None)` once, when it is ready. `metrics`: where workers put their figures.
    """

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        *,
        workers: int,
        environment: Mapping[str, str],
        directory: Path,
        metrics: Path,
        tell: Callable[[str | None], None],
        patience: Patience | None = None,
    ) -> None:
        self._command = command
        self._listener = listener
        self._environment = environment
        self._directory = directory
        self._metrics = metrics
        self._tell = tell
        self._patience = patience or Patience()
        self.board = Board.create(2 * workers)  # beside each worker there may be the one that it replaces
        self.board.wanted = workers
        self._lifeline, self._held = os.pipe()  # the end that is held closes with this process, however it ends
        self._workers: dict[int, Worker] = {}  # by process id
        self._early = 0  # workers that died young, one after the other
        self._start_at = 0.0
        self._ever_up = self._ever_ready = False
        self._reason, self._told = "", ""

    def run(self, asked: Sequence[int]) -> int:
        """Until `asked` has a signal; a second one ends the drain, a third kills. 0 where all workers ended in order.

        Raises LnmtError where no worker can start.
        """
        while not asked:
            self._look()
            time.sleep(POLL_S)
        return self._end(asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
        self._listener.close()
        self.board.close()
        os.close(self._lifeline)
        os.close(self._held)

    def _look(self) -> None:
        self._bury()
        for pid, worker in self._workers.items():
            self._feel_pulse(pid, worker)
        self._fill()
        self._report()

    def _fill(self) -> None:
        """Start what is missing, unless workers keep dying young."""
        staying = sum(self.board.state(worker.seat) is not State.LEAVING for worker in self._workers.values())
        taken = {worker.seat for worker in self._workers.values()}
        free = [seat for seat in range(self.board.seats) if seat not in taken]
        for seat in free[: max(0, self.board.wanted - staying)]:
            if time.monotonic() < self._start_at:
                return
            self._start(seat)

    def _start(self, seat: int) -> None:
        self.board.clear(seat, State.STARTING)
        given = {"socket": self._listener.fileno(), "board": self.board.fd, "lifeline": self._lifeline}
        options = [text for name, value in {**given, "seat": seat}.items() for text in (f"--{name}", str(value))]
        try:
            process = subprocess.Popen(
                [*self._command, *options],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=tuple(given.values()),
                start_new_session=True,  # a Ctrl-C reaches the supervisor alone, which ends workers in order
            )
        except OSError as error:  # no memory, no process left
            self.board.clear(seat)
            self._died_young(f"no process could be started: {error}")
            return
        self._workers[process.pid] = Worker(process, seat)

    def _bury(self) -> None:
        """Collect what has ended."""
        for pid, worker in list(self._workers.items()):
            status = worker.process.poll()
            if status is not None:
                del self._workers[pid]
                self._mourn(pid, worker, status)
        _reap_orphans(self._workers)

    def _mourn(self, pid: int, worker: Worker, status: int) -> None:
        """Take a worker that ended out of the books."""
        state, reason = self.board.state(worker.seat), self.board.reason(worker.seat)
        self.board.clear(worker.seat)  # first: readiness counts it until then
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, str(self._metrics))  # type: ignore[no-untyped-call]
        answered = 0.0 if worker.up_at is None else time.monotonic() - worker.up_at
        if status == 0 and (state is State.LEAVING or self.board.phase is not Phase.SERVING):
            log.info("worker ended", worker=pid)
            return
        log.error("worker died", worker=pid, status=status, answered_s=round(answered, 1))
        if answered < YOUNG_S:
            self._died_young(reason or f"it ended with {status}")
        else:
            self._early = 0

    def _died_young(self, reason: str) -> None:
        self._early += 1
        self._start_at = time.monotonic() + backoff(self._early)
        if self._early >= ATTEMPTS and not self._ever_up:
            raise LnmtError(
                "no worker can start",
                where=" ".join(self._command[-2:]),
                value=f"{reason} ({self._early} times)",
                fix="mend what the lines above name, then start it again",
            )

    def _feel_pulse(self, pid: int, worker: Worker) -> None:
        """Kill a worker whose event loop does not come round. Counted in looks: if all were stopped, none hung."""
        beats = self.board.beats(worker.seat)
        worker.still = 0 if beats != worker.beats else worker.still + 1
        worker.beats = beats
        if worker.up_at is None and self.board.state(worker.seat) in (State.UP, State.READY):
            worker.up_at = time.monotonic()
            self._ever_up = True
        waits = self._patience.hang if beats else self._patience.start
        if worker.still * POLL_S > waits:
            log.error("worker hangs", worker=pid, seconds=waits)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
                time.sleep(DUMP_S)
                os.kill(pid, signal.SIGKILL)

    def _report(self) -> None:
        """Tell once that the service is ready; until then each reason why it is not, seen twice alike."""
        if self._ever_ready:
            return
        if self.board.ready:
            self._ever_ready = True
            self._tell(None)
            return
        up = [worker.seat for worker in self._workers.values() if self.board.state(worker.seat) is State.UP]
        before, self._reason = self._reason, self.board.reason(up[0]) if up else ""
        if self._reason == before and self._reason not in ("", self._told):
            self._told = self._reason
            self._tell(self._reason)

    def _end(self, asked: Sequence[int]) -> int:
        """Fail readiness, go on for the drain period, close the socket, wait for what was accepted."""
        began = time.monotonic()
        drain = self._patience.drain if self.board.ready else 0.0  # nobody sends to a service that is not ready
        self.board.phase = Phase.DRAINING
        log.info("draining", seconds=drain, workers=len(self._workers))
        while time.monotonic() < began + drain and len(asked) < 2:
            self._look()
            time.sleep(POLL_S)
        self.board.phase = Phase.STOPPING
        self._listener.close()
        for worker in self._workers.values():
            if self.board.state(worker.seat) is State.STARTING:
                worker.process.terminate()
        while self._workers and time.monotonic() < began + self._patience.end and len(asked) < 3:
            self._bury()
            time.sleep(POLL_S)
        for pid in self._workers:
            log.error("worker killed: it had not finished", worker=pid, seconds=round(time.monotonic() - began, 1))
        return 1 if self._workers else 0


def backoff(early: int) -> float:
    """Seconds until the next start, after so many workers in a row that died young: none at first, then doubling."""
    return 0.0 if early < 2 else min(MOST_BACKOFF_S, BACKOFF_S * 2 ** min(early - 2, 10))


def _reap_orphans(workers: Mapping[int, object]) -> None:
    """As process 1 of a container every process whose parent is gone is ours to collect."""
    while os.getpid() == 1:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in workers:
            return  # a worker of ours is buried with its books
        os.waitpid(ended.si_pid, 0)
