"""One stage through DVC: asked in this process whether it is stale, then run below `dvc repro --single-item`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lnmt.drive.environment import child_environment
from lnmt.drive.exits import exit_file, read_exit
from lnmt.drive.holders import Busy, patiently
from lnmt.drive.live_metrics import FOLLOWED, live_metrics
from lnmt.drive.repo import output_hashes, restore_missing, stale
from lnmt.errors import LnmtError
from lnmt.settings import Settings
from lnmt.stages import find_stage
from lnmt.tail import Tail

LOOK_EVERY_S = 0.1
STOP_S = {signal.SIGINT: 20.0, signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
BUSY = ("Unable to acquire lock", "it is being blocked by")

Outcome = Literal["ran", "restored", "up to date"]


@dataclass(frozen=True)
class StageResult:
    """What became of a stage."""

    name: str
    outcome: Outcome  # restored: DVC's run cache had the outputs of these very inputs
    seconds: float
    outputs: dict[str, str]  # path → content hash


def _ignore(_: Any) -> None:
    """Where nobody watches."""


def run_stage_by_dvc(
    name: str,
    settings: Settings,
    *,
    on_progress: Callable[[dict[str, Any]], None] = _ignore,
    on_log: Callable[[str], None] = _ignore,
    wait_s: float = 300.0,
) -> StageResult:
    """Bring the outputs of one stage up to date; the stages before it are taken as they are.

    on_progress
        gets each line that the stage writes to `.lnmt/progress/NAME.jsonl`
    on_log
        gets each line that DVC and the stage print; all of them stay in `.lnmt/progress/NAME.log`
    wait_s
        seconds to wait where another run holds DVC's lock

    Raises the stage's own error, with its exit code: GateBlocked, Transient, LnmtError. After a
    failure or Ctrl-C the outputs of the last good run are back where the stage left none.
    """
    find_stage(name)
    root = settings.project.absolute()
    start = time.monotonic()

    def attempt() -> Outcome:
        if not stale(root, name):
            return "up to date"
        return _reproduce(name, settings, root, on_progress, on_log)

    outcome = patiently(attempt, root, wait_s, on_log)
    return StageResult(name, outcome, round(time.monotonic() - start, 3), output_hashes(root, name))


def _reproduce(
    name: str,
    settings: Settings,
    root: Path,
    on_progress: Callable[[dict[str, Any]], None],
    on_log: Callable[[str], None],
) -> Outcome:
    directory = settings.state_dir / "progress"
    directory.mkdir(parents=True, exist_ok=True)
    progress, log = directory / f"{name}.jsonl", directory / f"{name}.log"
    for path in (progress, log, exit_file(settings, name)):
        path.unlink(missing_ok=True)
    records, lines = Tail(progress), Tail(log)

    def follow() -> None:
        for line in lines.lines():
            on_log(line)
        for record in records.records():
            on_progress(record)

    followed = live_metrics(name, settings)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", name]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**child_environment(settings), FOLLOWED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )
    with followed:
        try:
            while process.poll() is None:
                follow()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_EVERY_S)
            follow()
        except BaseException:
            _stop(process)
            restore_missing(root, name)
            raise
        if process.returncode == 0:
            return _outcome(settings, name, log)
        raise _failure(settings, root, name, log)


def _outcome(settings: Settings, name: str, log: Path) -> Outcome:
    if read_exit(settings, name) == 0:
        return "ran"
    return "up to date" if "didn't change, skipping" in log.read_text(errors="replace") else "restored"


def _failure(settings: Settings, root: Path, name: str, log: Path) -> BaseException:
    """What to raise: Busy, the stage's own error, or one with the last lines of the log."""
    tail = log.read_text(errors="replace").splitlines()[-15:]
    if any(sign in line for line in tail for sign in BUSY):
        return Busy("\n".join(tail))
    error = read_exit(settings, name)
    restore_missing(root, name)
    if isinstance(error, BaseException):
        return error
    return LnmtError(
        f"{name} was stopped" if error is None else f"DVC could not keep what {name} made",
        where=log,
        value="\n    ".join(["its last lines", *tail]),
        fix="mend what the last lines name, then run again",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End DVC and the stage below it, in growing earnest; returns when they are gone."""
    for number, patience in STOP_S.items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
