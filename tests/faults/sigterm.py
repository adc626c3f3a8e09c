"""SIGTERM while a slow step or a long evaluation runs: a checkpoint and exit code 143."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lnmt.training import feed, validation
from lnmt.training.execution import Execution
from tests.faults.killed_runs import Project, fork, kill_group, params, preload
from tests.faults.kit import Outcome, patched
from tests.training.training_kit import make_project, make_rows

LIMIT_S = 30.0
STEP_S = 2.0
EVALUATION_S = 90.0  # in batches of 0.1 s
ROWS = 900
CHECKPOINT_S = 600.0  # none but those of evaluations and signals
STATUS = 128 + signal.SIGTERM


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` runs each are told to end during a step, with and without workers, and during an evaluation."""
    outcome = Outcome("SIGTERM", 0)
    preload()
    project = make_project(directory / "project", validation=make_rows("validation", ROWS))
    whole = Project(directory / "whole", project)
    whole.train(params(0, CHECKPOINT_S))
    slowest = 0.0
    for where, workers, slow in (("step", 0, slow_step), ("step", 2, slow_step), ("evaluation", 0, slow_evaluation)):
        for number in range(count):
            cut = Project(directory / f"{where}-{workers}-{number}", project)
            seconds, failures = _end(cut, workers, slow)
            cut.train(params(workers, CHECKPOINT_S))
            failures += cut.compare(whole)
            slowest = max(slowest, seconds)
            outcome.failures += [f"{where}, {workers} workers: {text}" for text in failures]
            outcome.tried += 1
            tick()
    outcome.figures = {"slowest, s": round(slowest, 2), "limit, s": LIMIT_S}
    return outcome


def _end(project: Project, workers: int, slow: Callable[[Path], ExitStack]) -> tuple[float, list[str]]:
    """Seconds from the signal to the end, and what went wrong."""
    begun = project.root / "begun"

    def work() -> None:
        with slow(begun):
            project._train(params(workers, CHECKPOINT_S))

    pid = fork(work)
    while not begun.exists():
        time.sleep(0.005)
    start = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    status = None
    while status is None and time.monotonic() - start < LIMIT_S:
        done, found = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(found) if done else None
        time.sleep(0.005)
    seconds = time.monotonic() - start
    kill_group(pid)
    if status is None:
        os.waitpid(pid, 0)
        return seconds, [f"still runs after {LIMIT_S:.0f} s"]
    wrong = [] if status == STATUS else [f"ended with {status}"]
    kept = sorted((project.root / "work/checkpoints").glob("step-*"))
    done_steps = max(project.steps()[0])
    if not kept or int(kept[-1].name[5:13]) != done_steps:
        wrong.append(f"step {done_steps} was done, kept are {[path.name for path in kept]}")
    return seconds, wrong


def slow_step(begun: Path) -> ExitStack:
    """From its third step on, a run needs 2 s for each."""
    steps = 0
    real = Execution.loss

    def loss(self: Execution, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps >= 3:
            begun.touch()
            time.sleep(STEP_S)
        return real(self, batch)

    return _entered(Execution, loss=loss)


def slow_evaluation(begun: Path) -> ExitStack:
    """Each evaluation is one of many small batches."""
    real = feed.to_batch

    def to_batch(*arguments: Any) -> Any:
        begun.touch()
        time.sleep(EVALUATION_S / ROWS)
        return real(*arguments)

    return _entered(validation, to_batch=to_batch, ROWS=1)


def _entered(target: object, **values: object) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(patched(target, **values))
    return stack
