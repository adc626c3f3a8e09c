"""The supervisor with small real processes in place of workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from lnmt.errors import LnmtError
from lnmt.serving.processes.board import Board, Phase, State
from lnmt.serving.processes.sockets import listening
from lnmt.serving.processes.supervisor import Patience, Supervisor, backoff

# What a worker does on the board, without an app. How it behaves is the name of a file beside it.
WORKER = """
import argparse, faulthandler, os, signal, sys, time
from pathlib import Path
from lnmt.serving.processes.board import Board, Phase, State

parser = argparse.ArgumentParser()
for name in ("socket", "board", "lifeline", "seat"):
    parser.add_argument(f"--{name}", type=int)
given = parser.parse_args()
board, seat, does = Board(given.board), given.seat, Path("does").read_text()
faulthandler.register(signal.SIGUSR1)
os.fstat(given.socket)
if does == "fail":
    board.say(seat, "ImportError: no module named colour")
    sys.exit(3)
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
board.say(seat, "no model released yet: lnmt release")
state, beats = State.UP if does == "unready" else State.READY, 0
while not leaving and (board.phase is not Phase.STOPPING or does == "stubborn"):
    board.beat(seat)
    beats += 1
    board.set_state(seat, state)
    if does == "hang" and beats == 5:
        time.sleep(3600)
    time.sleep(0.01)
if board.phase is Phase.SERVING:
    board.set_state(seat, State.LEAVING)
    while not board.ready:
        board.beat(seat)
        time.sleep(0.01)
"""


@dataclass
class Running:
    """A supervisor in a thread."""

    supervisor: Supervisor
    metrics: Path
    asked: list[int] = field(default_factory=list)
    told: list[str | None] = field(default_factory=list)
    result: list[int | Exception] = field(default_factory=list)

    @property
    def board(self) -> Board:
        return self.supervisor.board

    def pids(self) -> set[int]:
        found = set()
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # it ends meanwhile
                if WORKER in child.cmdline():
                    found.add(child.pid)
        return found

    def states(self) -> list[State]:
        return [self.board.state(seat) for seat in range(self.board.seats)]

    def run(self) -> None:
        try:
            with self.supervisor:
                self.result.append(self.supervisor.run(self.asked))
        except Exception as error:
            self.result.append(error)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    threads: list[tuple[Running, threading.Thread]] = []

    def begin(does: str, workers: int = 1, **patience: float) -> Running:
        (tmp_path / "does").write_text(does)
        metrics = tmp_path / "metrics"
        metrics.mkdir()
        told: list[str | None] = []
        supervisor = Supervisor(
            [sys.executable, "-c", WORKER],
            listening("127.0.0.1", 0),
            workers=workers,
            environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            directory=tmp_path,
            metrics=metrics,
            tell=told.append,
            patience=Patience(**{"drain": 0.2, **patience}),
        )
        running = Running(supervisor, metrics, told=told)
        thread = threading.Thread(target=running.run)
        thread.start()
        threads.append((running, thread))
        return running

    yield begin
    for running, thread in threads:
        running.asked += [signal.SIGTERM] * 3
        thread.join()
        assert running.pids() == set()


def until(condition: Callable[[], bool]) -> None:
    while not condition():  # ends by the test's own time limit
        time.sleep(0.01)


def test_it_drains_then_stops_and_ends_with_0(start: Start) -> None:
    running = start("serve", workers=2, drain=3600)
    until(lambda: running.board.ready == 2)
    until(lambda: running.told == [None])
    assert running.board.wanted == 2
    running.asked.append(signal.SIGTERM)
    until(lambda: running.board.phase is Phase.DRAINING)
    assert running.board.ready == 2, "they serve on"
    running.asked.append(signal.SIGTERM)  # shortens the drain
    until(lambda: running.result != [])
    assert running.result == [0]


def test_nobody_waits_for_a_service_that_was_never_ready(start: Start) -> None:
    running = start("unready", drain=3600)
    until(lambda: running.told == ["no model released yet: lnmt release"])
    running.asked.append(signal.SIGTERM)
    until(lambda: running.result != [])
    assert running.result == [0]


def test_a_killed_worker_is_replaced_and_taken_out_of_the_metrics(start: Start) -> None:
    running = start("serve", workers=2)
    until(lambda: running.board.ready == 2)
    before = running.pids()
    victim = min(before)
    kept, gone = running.metrics / f"counter_{victim}.db", running.metrics / f"gauge_livesum_{victim}.db"
    kept.touch()
    gone.touch()
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in running.pids() and len(running.pids()) == 2 and running.board.ready == 2)
    assert len(running.pids() - before) == 1
    assert (kept.exists(), gone.exists()) == (True, False)
    assert running.told == [None]


def test_a_worker_that_leaves_stays_until_another_is_ready(start: Start) -> None:
    running = start("serve")
    until(lambda: running.board.ready == 1)
    (leaving,) = running.pids()
    os.kill(leaving, signal.SIGTERM)
    until(lambda: len(running.pids()) == 2)
    assert State.LEAVING in running.states()
    until(lambda: running.states().count(State.EMPTY) == 1)
    assert leaving not in running.pids()
    assert running.board.ready == 1


def test_a_worker_that_hangs_says_where_and_is_replaced(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    running = start("hang", hang=0.3)
    until(lambda: running.board.ready == 1)
    (hanging,) = running.pids()
    until(lambda: hanging not in running.pids() and running.pids() != set())
    errors = capfd.readouterr().err
    assert "most recent call first" in errors


def test_a_service_that_can_never_start_ends_with_the_reason(start: Start) -> None:
    running = start("fail")
    until(lambda: running.result != [])
    (error,) = running.result
    assert isinstance(error, LnmtError)
    assert error.what == "no worker can start"
    assert error.value == "ImportError: no module named colour (3 times)"


def test_what_does_not_end_is_killed_and_not_called_a_success(start: Start) -> None:
    running = start("stubborn", drain=0, end=0.3)
    until(lambda: running.board.ready == 1)
    running.asked.append(signal.SIGTERM)
    until(lambda: running.result != [])
    assert running.result == [1]


@pytest.mark.parametrize(("early", "seconds"), [(0, 0), (1, 0), (2, 0.5), (3, 1), (4, 2), (8, 30), (1000, 30)])
def test_the_back_off_grows_with_each_worker_that_dies_young(early: int, seconds: float) -> None:
    assert backoff(early) == seconds
