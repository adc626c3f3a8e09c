"""Who is at work in a project: DVC's own lock files, read for people."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lnmt.errors import Transient
from lnmt.files import read_json

T = TypeVar("T")

LOOK_EVERY_S = 0.5
TELL_EVERY_S = 30.0


class Busy(Exception):
    """DVC's lock is held by another process."""


@dataclass(frozen=True)
class Holder:
    """A living process that holds DVC's lock."""

    pid: int
    since: float  # unix seconds; when the process started
    command: str

    def __str__(self) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"pid {self.pid}, running since {at}: {self.command}"


def holders(root: Path) -> list[Holder]:
    """Every other living process that DVC's lock files name."""
    import psutil

    found = []
    for pid in sorted(set(_pids(root / ".dvc" / "tmp")) - {os.getpid()}):
        try:
            process = psutil.Process(pid)
            found.append(Holder(pid, process.create_time(), " ".join(process.cmdline())))
        except psutil.Error:
            continue  # it ended between the two looks
    return found


def _pids(directory: Path) -> Iterator[int]:
    try:
        locked: dict[str, Any] = read_json(directory / "rwlock")
    except (FileNotFoundError, ValueError):
        locked = {}
    for mode in ("write", "read"):
        for entry in locked.get(mode, {}).values():
            for holder in entry if isinstance(entry, list) else [entry]:
                yield int(holder["pid"])


def patiently(call: Callable[[], T], root: Path, wait_s: float, tell: Callable[[str], None]) -> T:
    """`call()`, again while it raises Busy, for `wait_s` seconds at most; then Transient says who holds the lock."""
    start = time.monotonic()
    told = -TELL_EVERY_S
    while True:
        try:
            return call()
        except Busy as busy:
            waited = time.monotonic() - start
            who = "; ".join(map(str, holders(root))) or str(busy)
            if waited >= wait_s:
                raise Transient(
                    f"another run is at work in this project (waited {waited:.0f} s)",
                    where=root,
                    value=who,
                    fix="let it end, or stop that process, then run again",
                ) from busy
            if waited - told >= TELL_EVERY_S:
                told = waited
                tell(f"another run is at work here, waiting for it at most {wait_s - waited:.0f} s: {who}")
            time.sleep(min(LOOK_EVERY_S, wait_s - waited))
