"""kill -9 at random moments of searches for an engine, half of them within a build; each is started until it ends."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.kit import Child, Outcome
from tests.faults.searches import BUILDS, Search, preload, whole
from tests.optimization.conftest import make_project

MOST_STEPS = 18  # that a process lives; a search has about 30
LONGEST_S = 0.3  # after a step: an export takes longer


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` kills; every search ends with what one ends with that was never killed, and does nothing twice."""
    outcome, draw = Outcome("kill -9 during a search", 0), random.Random(seed)
    preload()
    template = directory / "template"
    make_project(template)
    unkilled = _search(directory / "unkilled", template)
    status = unkilled.end(unkilled.start())
    if status != 0:
        outcome.failures.append(f"a search that nobody killed ended with {status}")
        return outcome
    outcome.failures += unkilled.certified()
    expected = unkilled.answers()
    cut: Counter[str] = Counter()
    searches = repeated = 0
    while outcome.tried < count and not outcome.failures:
        search = _search(directory / f"search-{searches}", template)
        searches += 1
        while status := _until_killed(search, draw, outcome, count, cut, tick):
            if status > 0:
                outcome.failures.append(f"search {searches}: it ended with {status}")
                break
            outcome.failures += [f"kill {outcome.tried}: {text}" for text in whole(search)]
        repeated += len(search.again)
        outcome.failures += search.again
        if not outcome.failures:
            outcome.failures += search.certified()
            if search.answers() != expected:
                outcome.failures.append(f"search {searches}: candidates answer otherwise")
    outcome.figures = {
        "searches": searches,
        "measured again": repeated,
        **{f"cut within {where}": number for where, number in sorted(cut.items())},
    }
    return outcome


def _search(root: Path, template: Path) -> Search:
    shutil.copytree(template, root)
    return Search(root, root / "work", root / "log.txt", ["prune_weights"])


def _until_killed(
    search: Search, draw: random.Random, outcome: Outcome, count: int, cut: Counter[str], tick: Callable[[], None]
) -> int:
    """One process; its status: 0 where the search has ended, negative where it was killed."""
    child = search.start()
    if outcome.tried == count or not _wait(search, child, draw.randint(1, MOST_STEPS), build=outcome.tried % 2 == 0):
        return search.end(child)
    time.sleep(draw.uniform(0, LONGEST_S))
    child.kill()
    status = search.end(child)
    if status < 0:
        outcome.tried += 1
        cut[search.last.split()[1] if search.last.startswith("begin") else "what is between"] += 1
        tick()
    return status


def _wait(search: Search, child: Child, steps: int, *, build: bool) -> bool:
    """Until `child` has told so many steps, and where wanted begins to build; False where it ended before."""
    while line := child.line():
        search.note(line)
        steps -= 1
        if steps <= 0 and (not build or line.startswith(BUILDS)):
            return True
    return False
