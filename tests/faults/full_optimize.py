"""A disk that gets full while an engine is searched for: that of the search's work, or that of what it publishes."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError
from lnmt.optimization import optimize as module
from tests.faults.full_disk import small_disk
from tests.faults.kit import Outcome, patched
from tests.faults.searches import OUTPUTS, Search, Tell, preload
from tests.optimization.conftest import make_project

PLACES = ("work", "output")
DISK = "16m"


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` searches, in turns on either disk: a clear error, what was published stays, with room it goes on."""
    outcome, draw = Outcome(f"disk full during a search (tmpfs of {DISK}B)", count), random.Random(seed)
    preload()
    with ExitStack() as stack:
        try:
            disks = {place: stack.enter_context(small_disk(directory / place, DISK)) for place in PLACES}
        except OSError as error:
            outcome.skipped = f"cannot mount a tmpfs: {error.strerror}"
            return outcome
        make_project(disks["output"] / "project")
        search = Told(disks["output"] / "project", disks["work"] / "work", directory / "log.txt")
        needed = _bytes_needed(search, outcome)
        figures = dict.fromkeys(("clear errors", "outputs untouched", "went on once there was room"), 0)
        for number in range(count):
            place = PLACES[number % len(PLACES)]
            wrong = _try(search, disks[place] / "filler", draw.randrange(needed[place] * 3 // 4), figures)
            outcome.failures += [f"{number}, {place}: {text}" for text in wrong]
            tick()
        outcome.figures = {**figures, **{f"bytes needed, {place}": size for place, size in needed.items()}}
    return outcome


class Told(Search):
    """A search that tells how it failed, and how many bytes it needed."""

    def _search(self, tell: Tell) -> None:
        def publish(made: Any, io: Any) -> None:
            sizes = {"work": _size(self.work), "output": sum(map(_size, made.values()))}
            tell(f"sizes {json.dumps(sizes)}")
            module_publish(made, io)

        module_publish = module._publish
        try:
            with patched(module, _publish=publish):
                super()._search(tell)
        except LnmtError as error:
            tell(f"error {json.dumps([error.what, error.fix, error.exit_code])}")


def _bytes_needed(search: Told, outcome: Outcome) -> dict[str, int]:
    """On either disk, by a search that has room enough; it leaves something that is published."""
    status, lines = search.start().end()
    found = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("sizes ")]
    if status != 0 or not found:
        outcome.failures.append(f"a search with room enough ended with {status}: {lines[-1:]}")
        return dict.fromkeys(PLACES, 2)
    return {place: int(found[0][place]) for place in PLACES}


def _try(search: Told, filler: Path, free: int, figures: dict[str, int]) -> list[str]:
    """What is wrong after a search with `free` bytes, and one with room again."""
    wrong = []
    before = search.published()
    _leave(filler, free)
    search.end(search.start())
    what, fix, code = json.loads(search.last.partition(" ")[2]) if search.last.startswith("error ") else ("", None, 0)
    if "No space left on device" in what and fix and code == 1:
        figures["clear errors"] += 1
    else:
        wrong.append(f"no clear error with {free} bytes free, but {search.last!r}")
    if search.published() == before and set(before) == set(OUTPUTS):
        figures["outputs untouched"] += 1
    else:
        wrong.append("what was published is another")
    filler.unlink()
    status = search.end(search.start())
    wrong += search.again
    if status == 0 and not search.last.startswith("error ") and not search.again and not search.certified():
        figures["went on once there was room"] += 1
    else:
        wrong.append(f"with room again it ended with {status}: {search.last!r}")
    search.done.clear()  # with its end its work is gone
    return wrong


def _leave(filler: Path, free: int) -> None:
    """Fill the disk up to `free` bytes."""
    stat = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        file.write(b"\0" * (stat.f_bavail * stat.f_frsize - free))


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
