"""A disk that is full: a tmpfs of 4 MB, filled up until less is free than a checkpoint needs."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lnmt.errors import LnmtError
from lnmt.files import file_digests
from tests.faults.kit import Outcome, open_checkpoints, parts_at, resume, state_at

SIZE = 100_000  # numbers: 0.8 MB a checkpoint
DISK = "4m"  # its size


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` saves on a full disk: a clear error, the checkpoint before intact; with room again, saving works."""
    outcome = Outcome("disk full (tmpfs of 4 MB)", count)
    try:
        with small_disk(directory / "disk") as disk:
            _fill(outcome, disk, random.Random(seed), tick)
    except OSError as error:
        outcome.skipped = f"cannot mount a tmpfs: {error.strerror}"
    return outcome


@contextmanager
def small_disk(directory: Path, size: str = DISK) -> Iterator[Path]:
    """A disk of `size` at `directory`. Raises OSError where it cannot be mounted."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr.strip() or "mount failed")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def _fill(outcome: Outcome, disk: Path, draw: random.Random, tick: Callable[[], None]) -> None:
    work, filler = disk / "checkpoints", disk / "filler"
    checkpoints = open_checkpoints(work, keep=1)
    step = 1
    checkpoints.save(state_at(step), parts_at(step, SIZE))
    needed = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    clear, intact, again = 0, 0, 0
    for number in range(outcome.tried):
        before = file_digests(work)
        _occupy(filler, draw.randrange(needed - 4096))
        error = None
        try:
            checkpoints.save(state_at(step + 1), parts_at(step + 1, SIZE))
        except LnmtError as caught:
            error = caught
        told = error is not None and "No space left on device" in error.what and error.where == work and error.fix
        clear += bool(told)
        if not told:
            outcome.failures.append(f"{number}: no clear error, but {error!r}")
        notes: list[str] = []
        found = resume(open_checkpoints(work, keep=1, notes=notes), notes, SIZE)
        whole = found.step == step and not found.wrong and not notes and file_digests(work) == before
        intact += whole
        if not whole:
            outcome.failures.append(f"{number}: {found}, {notes}")
        filler.unlink()
        checkpoints.save(state_at(step + 1), parts_at(step + 1, SIZE))
        step += 1
        found = resume(open_checkpoints(work, keep=1), [], SIZE)
        again += found.step == step and not found.wrong
        tick()
    if again != outcome.tried:
        outcome.failures.append(f"with room again, {outcome.tried - again} saves did not work")
    outcome.figures = {"clear errors": clear, "intact": intact, "saved once there was room": again}


def _occupy(filler: Path, free: int) -> None:
    """Leave `free` bytes."""
    stat = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        file.write(b"\0" * (stat.f_bavail * stat.f_frsize - free))
