"""Every call to the disk that a save or a resume makes, failed in turn, or the last one before the process dies."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError
from lnmt.training.checkpoint import Checkpoints
from tests.faults.kit import Child, Outcome, open_checkpoints, parts_at, patched, resume, state_at

SIZE = 400  # numbers; what counts is the calls
CALLS = ("open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink", "rmdir")
MODES = ("EIO", "ENOSPC", "half", "killed before", "killed after")
ENDED = 9  # status of a child that ended at the call, as a killed one: nothing is cleaned up


@dataclass
class Shim:
    """Counts calls of `os`; the one with number `fails` (from 1) goes wrong as `mode` says."""

    fails: int = 0
    mode: str = "EIO"
    calls: int = 0

    def call(self, name: str, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls != self.fails:
            return real(*args, **options)
        if self.mode == "killed before":
            os._exit(ENDED)
        if name == "close" or self.mode == "killed after":
            real(*args, **options)
        if self.mode == "killed after":
            os._exit(ENDED)
        if self.mode == "half" and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])
        number = errno.EIO if self.mode == "EIO" else errno.ENOSPC
        raise OSError(number, os.strerror(number))

    @contextmanager
    def entered(self) -> Iterator[None]:
        with patched(os, **{name: partial(self.call, name, getattr(os, name)) for name in CALLS}):
            yield


@dataclass(frozen=True)
class Scene:
    """What is on the disk, and what is then done."""

    name: str
    before: tuple[int, ...]  # checkpoints at these steps
    best: int | None
    does: int | None  # saves this step; None: resumes
    keep: int = 2
    leftovers: bool = False  # of a process that was killed while it wrote and deleted
    damaged: bool = False  # a newer one that does not agree with its digests

    def set_up(self, directory: Path, opened: Opener) -> None:
        for step in self.before:
            best = self.best if self.best in self.before and step >= (self.best or 0) else None
            opened(directory, keep=9).save(state_at(step, best), parts_at(step, SIZE))
        if self.damaged:
            path = opened(directory, keep=9).save(state_at(8), parts_at(8, SIZE))
            (path / "model.safetensors").write_bytes(b"something else")
        if self.leftovers:
            (directory / ".step-00000009.0123").mkdir()
            (directory / ".step-00000009.0123/model.safetensors").write_bytes(b"half of i")
            (directory / "step-00000009").mkdir()

    def do(self, directory: Path, opened: Opener) -> None:
        if self.does is None:
            resume(opened(directory, keep=self.keep), [], SIZE)
        else:
            opened(directory, keep=self.keep).save(state_at(self.does, self.best), parts_at(self.does, SIZE))


Opener = Callable[..., Checkpoints]

SCENES = (
    Scene("the first save", (), None, 1),
    Scene("a save that replaces two", (1, 2, 3, 4), 1, 5, leftovers=True),
    Scene("the same step again", (3,), 3, 3, keep=1),
    Scene("a resume that sets aside", (1, 2), 1, None, leftovers=True, damaged=True),
)


def run(
    share: float, directory: Path, seed: int, tick: Callable[[], None], opened: Opener = open_checkpoints
) -> Outcome:
    """Each call × each mode in `SCENES`; with `share` below 1 every call still fails, in some of the modes.

    Afterwards a fresh run must find the checkpoint before or the new one, whole, and be able to save the next.
    """
    outcome = Outcome("a call to the disk fails", 0)
    unusable = 0
    for number, scene in enumerate(SCENES):
        template = directory / f"scene-{number}"
        template.mkdir(parents=True)
        scene.set_up(template, opened)
        calls = _count(scene, template, directory / "counted", opened)
        for call in range(1, calls + 1):
            for place, mode in enumerate(MODES):
                if (call * 7 + place + seed) % len(MODES) >= share * len(MODES):
                    continue
                work = shutil.copytree(template, directory / "work")
                wrong = _attempt(scene, work, Shim(call, mode), opened)
                outcome.failures += [f"{scene.name}, call {call} of {calls}, {mode}: {text}" for text in wrong]
                unusable += bool(wrong)
                outcome.tried += 1
                shutil.rmtree(work)
                shutil.rmtree(opened(work).aside, ignore_errors=True)
                tick()
        outcome.figures[f"calls of {scene.name}"] = calls
    outcome.figures["unusable states"] = unusable
    return outcome


def _count(scene: Scene, template: Path, work: Path, opened: Opener) -> int:
    shim = Shim()
    shutil.copytree(template, work)
    with shim.entered():
        scene.do(work, opened)
    shutil.rmtree(work)
    shutil.rmtree(opened(work).aside, ignore_errors=True)
    return shim.calls


def _attempt(scene: Scene, work: Path, shim: Shim, opened: Opener) -> list[str]:
    """What went wrong."""
    child = Child(partial(_fail, scene, work, shim, opened))
    status, lines = child.end()
    if shim.mode.startswith("killed"):
        if status != ENDED:
            return [f"the call was not reached: {lines}"]
        return _usable(scene, work, opened, returned=False)
    return lines + ([f"ended with {status}"] if status else [])


def _fail(scene: Scene, work: Path, shim: Shim, opened: Opener, tell: Callable[[str], None]) -> None:
    """In the child: the fault, then, in the same process, what is left."""
    returned = False
    with shim.entered():
        try:
            scene.do(work, opened)
        except LnmtError as error:
            if not (error.where and error.fix and "cannot write a checkpoint: " in error.what):
                tell(f"an unclear error: {error!r}")
        else:
            returned = True
    if shim.calls < shim.fails:
        tell("the call was not reached")
    for text in _usable(scene, work, opened, returned=returned):
        tell(text)


def _usable(scene: Scene, work: Path, opened: Opener, *, returned: bool) -> list[str]:
    """A fresh run finds the one before or the new one, and can save the next."""
    before = scene.before[-1] if scene.before else None
    allowed = {before, scene.does or before}
    if returned and scene.does:
        allowed = {scene.does}
    notes: list[str] = []
    found = resume(opened(work, keep=scene.keep, notes=notes), notes, SIZE)
    if found.step not in allowed or found.wrong:
        return [f"resumed {found}, not one of {allowed}"]
    if found.damaged and not scene.damaged:
        return [f"what looked whole was not: {found.damaged}"]
    later = 10
    opened(work, keep=scene.keep).save(state_at(later, scene.best), parts_at(later, SIZE))
    again = resume(opened(work, keep=scene.keep), [], SIZE)
    return [] if again.step == later and not again.wrong else [f"after the next save: {again}"]
