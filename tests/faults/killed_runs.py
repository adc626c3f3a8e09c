"""kill -9 at random steps of real training runs, each started again until it has finished."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lnmt.files import sha256_file
from lnmt.params import TrainParams
from tests.faults.kit import Outcome
from tests.training.training_kit import make_project, run_train, train_params

EPOCHS = 4
STEPS_PER_EPOCH = 10
MOST_STEPS = 8  # that a process lives
CHECKPOINT_S = 0.1  # a few steps: some are done again after a kill
LIMIT_S = 120.0  # for one process


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` kills for each number of loader workers; what runs through to the end must be what never was killed."""
    outcome = Outcome("kill -9 during a run", 0)
    preload()
    project = make_project(directory / "project")
    weights = set()
    for workers in (0, 2):
        options = params(workers, CHECKPOINT_S)
        whole = Project(directory / f"whole-{workers}", project)
        whole.train(options)
        weights.add(whole.weights())
        expected, _ = whole.steps()
        outcome.failures += _not_once_an_epoch(expected)
        kills = runs = again = 0
        draw = random.Random(f"{seed}-{workers}")
        while kills < count:
            cut = Project(directory / f"cut-{workers}-{runs}", project)
            killed, failures = cut.train_killed(options, count - kills, draw, tick)
            kills += killed
            runs += 1
            failures += cut.compare(whole)
            again += cut.steps()[1]
            outcome.failures += [f"{workers} workers, run {runs}: {text}" for text in failures]
        outcome.tried += kills
        outcome.figures |= {
            f"kills, {workers} workers": kills,
            f"runs, {workers} workers": runs,
            f"steps done again, {workers} workers": again,
        }
    if len(weights) != 1:
        outcome.failures.append("the weights depend on the number of workers")
    outcome.figures["other weights, losses or rows"] = len(outcome.failures)
    outcome.figures["weights"] = sorted(weights)[0]
    return outcome


def params(workers: int, checkpoint_s: float) -> TrainParams:
    """Parameters of a short run that logs each step."""
    return train_params(
        epochs=EPOCHS,
        workers=workers,
        checkpoint_s=checkpoint_s,
        keep_checkpoints=2,
        callbacks=[{"name": "log_steps"}],
    )


def preload() -> None:
    """What a run imports on its way: children have it at once."""
    for name in ("matplotlib.figure", "matplotlib.backends.backend_svg"):
        importlib.import_module(name)


class Project:
    """A copy of a project, trained in forked processes."""

    def __init__(self, root: Path, template: Path) -> None:
        self.root = shutil.copytree(template, root)

    def train(self, options: TrainParams) -> None:
        """To the end, in one process."""
        status = os.waitstatus_to_exitcode(os.waitpid(fork(partial(self._train, options)), 0)[1])
        assert status == 0, f"training ended with {status}"

    def train_killed(
        self, options: TrainParams, most: int, draw: random.Random, tick: Callable[[], None]
    ) -> tuple[int, list[str]]:
        """To the end, in processes that are killed, at most so often; how often they were, and what went wrong."""
        kills = 0
        while True:
            before, steps = self._logged(), draw.randint(1, MOST_STEPS)
            pid = fork(partial(self._train, options))
            status = None
            deadline = time.monotonic() + LIMIT_S
            while status is None and (kills == most or self._logged() < before + steps):
                done, found = os.waitpid(pid, os.WNOHANG)
                status = os.waitstatus_to_exitcode(found) if done else None
                if time.monotonic() > deadline:
                    kill_group(pid)
                    os.waitpid(pid, 0)
                    return kills, [f"no end within {LIMIT_S:.0f} s"]
                time.sleep(0.001)
            if status is None:
                time.sleep(draw.uniform(0, 0.03))  # anywhere in a step, a save or an evaluation
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                kills += 1
                tick()
            kill_group(pid)  # its loader workers would find out by themselves a little later
            if status is not None:
                return kills, [] if status == 0 else [f"training ended with {status}"]

    def weights(self) -> str:
        """The digest of the weights in the bundle."""
        return sha256_file(self.root / "models/trained/model.safetensors")

    def steps(self) -> tuple[dict[int, dict[str, Any]], int]:
        """What the log holds of each step, and how many lines were of steps done again; raises where they differ."""
        found: dict[int, dict[str, Any]] = {}
        again = 0
        for path in self._logs():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # a line that was being written
                    step = json.loads(line)
                    kept = {name: step[name] for name in ("step", "loss", "lr", "gradient_norm", "rows", "ids")}
                    again += step["step"] in found
                    assert found.setdefault(step["step"], kept) == kept, f"step {step['step']} went another way"
        return found, again

    def compare(self, whole: Project) -> list[str]:
        """How this run differs from one that was never killed."""
        try:
            mine, _ = self.steps()
        except AssertionError as error:
            return [str(error)]
        theirs, _ = whole.steps()
        wrong = [f"step {step} is another" for step in theirs if mine.get(step) != theirs[step]]
        if self.weights() != whole.weights():
            wrong.append("its weights are others")
        return wrong

    def _train(self, options: TrainParams) -> None:
        os.setpgid(0, 0)
        sys.stderr = (self.root / "stderr.txt").open("a", encoding="utf-8")
        run_train(self.root, options)

    def _logs(self) -> Iterator[Path]:
        # Not from the root: below it directories come and go while a run goes on.
        return (self.root / ".lnmt" / "logs").rglob("steps.jsonl")

    def _logged(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self._logs())


def fork(work: Callable[[], None]) -> int:
    """A child that does `work` and ends as a command would; its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def kill_group(pid: int) -> None:
    """End what the child started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _not_once_an_epoch(steps: dict[int, dict[str, Any]]) -> list[str]:
    wrong = []
    for epoch in range(EPOCHS):
        first = epoch * STEPS_PER_EPOCH + 1
        seen = Counter(name for step in range(first, first + STEPS_PER_EPOCH) for name in steps[step]["ids"])
        if seen != Counter(f"train-{row}" for row in range(160)):
            wrong.append(f"epoch {epoch} does not see each row once")
    return wrong
