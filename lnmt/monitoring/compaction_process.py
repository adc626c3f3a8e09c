"""The process that compacts: `python -m lnmt.monitoring.compaction_process`, started by `Compactor` alone.

A process of its own, because a pass needs Arrow (tens of MB that a worker would keep for good) and the interpreter
(which requests would wait for). Its first line of input is an `Order` as JSON; each later one asks for a pass and
is answered by a `Pass` as JSON. It ends with its input: whoever started it closes that, however they end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lnmt.monitoring.segments import SUFFIX as SEGMENT
from lnmt.monitoring.spool import SUFFIX as SPOOL

if TYPE_CHECKING:
    from lnmt.monitoring.event_index import EventIndex

NICENESS = 10  # answers come first


@dataclass(frozen=True)
class Order:
    """What is compacted: `directory`, indexed in the database of `url`, kept for `keep_s` seconds (None: for ever)."""

    directory: str
    url: str
    keep_s: float | None = None


@dataclass(frozen=True)
class Pass:
    """What one pass did, and what then lies on the disk."""

    seconds: float
    failures: list[str]
    damaged_lines: int
    spool_bytes: int
    segment_bytes: int


def run_pass(order: Order, index: EventIndex) -> Pass:
    """One pass, now; what fails is told in it."""
    from lnmt.monitoring.compaction import Compacted, compact

    directory, began = Path(order.directory), time.perf_counter()
    try:
        done = compact(directory, index, keep_s=order.keep_s) or Compacted()  # None: the last one's process is at it
        failures = sorted({str(failure) for failure in done.failures})
    except Exception as error:  # whatever it is, the next pass tries again
        done, failures = Compacted(), [str(error)]
    seconds = time.perf_counter() - began
    sizes = _sizes(directory)
    return Pass(seconds, failures, done.damaged_lines, sizes[SPOOL], sizes[SEGMENT])


def _sizes(directory: Path) -> Counter[str]:
    """Bytes of the files below `directory`, by their suffix."""
    sizes: Counter[str] = Counter()
    for path in directory.rglob("*.*"):
        with suppress(FileNotFoundError):  # a writer's file has just got its name
            sizes[path.suffix] += path.stat().st_size
    return sizes


def serve(asked: IO[str], told: IO[str]) -> None:
    """Passes, as they are asked for, until the input ends."""
    from lnmt.monitoring.event_index import EventIndex

    order = Order(**json.loads(asked.readline()))
    with EventIndex(order.url) as index:
        for _ in asked:
            told.write(json.dumps(asdict(run_pass(order, index))) + "\n")
            told.flush()


def main() -> int:
    """Serve standard input and output; 0 at its end, also where nobody reads any more."""
    os.nice(NICENESS)
    try:
        serve(sys.stdin, sys.stdout)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at the exit is silent
    return 0


if __name__ == "__main__":
    sys.exit(main())
