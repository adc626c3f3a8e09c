"""kill -9 while checkpoints are written, one after the other, at moments drawn over the time that a save takes."""

from __future__ import annotations

import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from lnmt.training.state_files import MANIFEST
from tests.faults.kit import Child, Outcome, Resumed, empty_parts, open_checkpoints, parts_at, resume, state_at

SIZE = 100_000  # numbers: 0.4 MB of weights, 0.4 MB of moments
BEST = 5  # every so many steps are a new best one
SAVES = 8.0  # the kill comes within so many saves, as they were timed on their own
RESUMES_CUT = 0.2  # of them, the one who goes on is killed too


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` kills; after each a fresh process must find a whole checkpoint, none older than the last one told of."""
    draw = random.Random(seed)
    save_s = statistics.median(_time_saves(directory / "timed"))
    work = directory / "checkpoints"
    cut: Counter[str] = Counter()
    outcome = Outcome("kill -9 during a save", count)
    open_checkpoints(work).save(state_at(1), parts_at(1, SIZE))
    told, resumable, corrupt, damaged = 1, 0, 0, 0
    for kill in range(count):
        child = Child(partial(_save_for_ever, work))
        child.line()  # it is about to save
        time.sleep(draw.uniform(0, SAVES * save_s))
        child.kill()
        status, lines = child.end()
        if status != -signal.SIGKILL:
            outcome.failures.append(f"kill {kill}: whoever saves had ended with {status} before")
        told = max([told, *map(int, lines)])
        cut[_where(work)] += 1
        if draw.random() < RESUMES_CUT:
            other = Child(partial(_tell_resumed, work))
            time.sleep(draw.uniform(0, save_s))
            other.kill()
            other.end()
        found = _resumed(work)
        if found is None or found.step is None or found.step < told:
            where = "nothing" if found is None else f"step {found.step}"
            outcome.failures.append(f"kill {kill}: step {told} was saved, {where} was resumed")
        elif found.wrong:
            outcome.failures.append(f"kill {kill}: {', '.join(found.wrong)} not what step {found.step} had")
        else:
            resumable += 1
        corrupt += bool(found and found.wrong)
        damaged += bool(found and found.damaged)
        tick()
    if damaged:
        outcome.failures.append(f"{damaged} checkpoints looked whole and were not")
    outcome.figures = {
        "resumable": resumable,
        "corrupt chosen": corrupt,
        **{f"cut while {where}": number for where, number in sorted(cut.items())},
        "checkpoints saved": told,
        "median save, ms": round(save_s * 1e3, 1),
    }
    return outcome


def _save_for_ever(directory: Path, tell: Callable[[str], None]) -> None:
    checkpoints = open_checkpoints(directory)
    found = checkpoints.resume(empty_parts())
    step = found.step if found else 0
    best = found.best_step if found else None
    tell(str(step))
    while True:
        step += 1
        best = step if step % BEST == 0 else best
        checkpoints.save(state_at(step, best), parts_at(step, SIZE))
        tell(str(step))


def _resumed(directory: Path) -> Resumed | None:
    child = Child(partial(_tell_resumed, directory))
    status, lines = child.end()
    return Resumed(**json.loads(lines[-1])) if status == 0 else None


def _tell_resumed(directory: Path, tell: Callable[[str], None]) -> None:
    notes: list[str] = []
    tell(json.dumps(asdict(resume(open_checkpoints(directory, notes=notes), notes, SIZE))))


def _time_saves(directory: Path) -> list[float]:
    checkpoints = open_checkpoints(directory)
    seconds = []
    for step in range(1, 8):
        parts = parts_at(step, SIZE)
        start = time.perf_counter()
        checkpoints.save(state_at(step), parts)
        seconds.append(time.perf_counter() - start)
    checkpoints.clear()
    return seconds


def _where(directory: Path) -> str:
    """What the killed one was doing, by what it left: a hidden directory newer than all others was being written."""
    whole = [path for path in directory.glob("step-*") if (path / MANIFEST).exists()]
    newest = max((_step(path) for path in whole), default=0)
    if len(whole) < sum(1 for _ in directory.glob("step-*")):
        return "committing"
    hidden = [_step(path) for path in directory.glob(".step-*")]
    if hidden:
        return "writing" if max(hidden) > newest else "deleting"
    return "between"


def _step(path: Path) -> int:
    return int(path.name.lstrip(".").split("-")[1].split(".")[0])
