"""Checkpoints whose content is a function of their step, children that can be killed, and what is counted.

Children are forked from a process that has everything imported and one thread: it takes milliseconds, and no
lock is held by a thread that the child does not have.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lnmt.training.checkpoint import Checkpoints
from lnmt.training.state import TrainState

if TYPE_CHECKING:
    from lnmt.training.execution import Stateful

FINGERPRINT = {"test": "faults"}


@dataclass
class Outcome:
    """What one kind of fault did."""

    fault: str
    tried: int
    figures: dict[str, int | float | str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skipped: str | None = None  # why nothing was tried


class Held:
    """A part that holds any state."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.state = state or {}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def state_at(step: int, best: int | None = None) -> TrainState:
    """The run's state at `step`."""
    return TrainState(step=step, samples=step * 16, best_step=best, curve=[{"step": step, "loss": 1 / step}])


def parts_at(step: int, size: int) -> dict[str, Stateful]:
    """A model of about `size` numbers, its optimiser and torch's generator as they are at `step`."""
    generator = torch.Generator().manual_seed(step)
    torch.manual_seed(step)
    weights = {f"layer.{n}": torch.randn(size // 4, generator=generator) for n in range(4)}
    moments = {
        n: {"step": torch.tensor(float(step)), "exp_avg": weight * 0.5} for n, weight in enumerate(weights.values())
    }
    groups = [{"lr": 1 / step, "betas": (0.9, 0.999), "params": list(range(4))}]
    return {"model": Held({**weights}), "optimizer": Held({"state": moments, "param_groups": groups})}


def empty_parts() -> dict[str, Stateful]:
    """Parts to resume into."""
    return {"model": Held(), "optimizer": Held()}


def open_checkpoints(directory: Path, *, keep: int = 2, notes: list[str] | None = None) -> Checkpoints:
    """The checkpoints in `directory`; what a person would be told goes to `notes`."""
    return Checkpoints(directory, FINGERPRINT, keep=keep, note=([] if notes is None else notes).append)


@dataclass(frozen=True)
class Resumed:
    """What a fresh process finds."""

    step: int | None  # None: there is nothing to go on from
    wrong: list[str]  # parts that are not what was saved at that step
    damaged: list[str]  # notes on checkpoints that looked whole and were not


def resume(checkpoints: Checkpoints, notes: list[str], size: int) -> Resumed:
    """Go on from `checkpoints` as a new run would, and compare every value with what was saved."""
    parts = empty_parts()
    torch.manual_seed(0)
    found = checkpoints.resume(parts)
    damaged = [note for note in notes if "cut short" not in note]
    if found is None:
        return Resumed(None, [], damaged)
    drawn = torch.get_rng_state()
    wanted = parts_at(found.step, size)
    wrong = [name for name in parts if not same(parts[name].state_dict(), wanted[name].state_dict())]
    if not torch.equal(drawn, torch.get_rng_state()):
        wrong.append("random")
    if found != state_at(found.step, found.best_step):
        wrong.append("state")
    return Resumed(found.step, wrong, damaged)


def same(a: Any, b: Any) -> bool:
    """Whether two states are the same: types, order, and every bit of the tensors."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


class Child:
    """A forked process that runs `work(tell)`; what it tells comes back line by line, also after it was killed."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            status = 1
            try:
                work(lambda line: _tell(writer, line))
                status = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(status)
        os.close(writer)
        self._lines = os.fdopen(reader, "r", encoding="utf-8")

    def line(self) -> str:
        """The next line; empty where the child has ended."""
        return self._lines.readline().rstrip("\n")

    def kill(self) -> None:
        """As the kernel's out-of-memory killer would."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, list[str]]:
        """Wait for it: its status (negative: the signal that ended it), and the lines not read yet."""
        with self._lines:
            lines = self._lines.read().splitlines()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), lines


def _tell(writer: int, line: str) -> None:
    os.write(writer, line.encode() + b"\n")


@contextmanager
def patched(target: object, **values: object) -> Iterator[None]:
    """Attributes of `target` are others while it is entered."""
    before = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
