"""Compaction beside a service: a thread that now and then asks a process of its own for a pass."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.monitoring.compaction_process import Order, Pass
from lnmt.observability.logging import get_logger

if TYPE_CHECKING:
    from filelock import FileLock

    from lnmt.monitoring.events import EventWriter

log = get_logger(__name__)

INTERVAL_S = 20.0
COMMAND = (sys.executable, "-m", "lnmt.monitoring.compaction_process")


class Compactor:
    """Has what `order` names compacted every `interval_s` seconds; of several on one machine one does it.

    `writer`: the service's own, whose file is closed when it is old, also where nothing more is asked. `observe`:
    gets each pass. What fails is logged once, and tried again at the next pass; until then events stay where they
    are and are read from there.
    """

    def __init__(
        self,
        order: Order,
        writer: EventWriter | None = None,
        *,
        interval_s: float = INTERVAL_S,
        observe: Callable[[Pass], None] = lambda done: None,
    ) -> None:
        self._order = order
        self._writer = writer
        self._interval_s = interval_s
        self._observe = observe
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock: FileLock | None = None  # held by the one that compacts, as long as it lives
        self._process: subprocess.Popen[str] | None = None
        self._failing: set[str] = set()

    def start(self) -> None:
        """Begin; the first pass comes after one interval."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="lnmt-compactor", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the pass it is at; one that takes longer goes on alone, and ends by itself."""
        self._stop.set()
        if self._thread is None:  # passes were run by hand
            self._end()
            return
        self._thread.join(timeout_s)
        self._thread = None

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._interval_s):
                self.run_pass()
        finally:
            self._end()

    def run_pass(self) -> None:
        """Ask for one pass and wait for it; raises nothing."""
        try:
            if self._writer is not None:
                self._writer.rotate()
            if not Path(self._order.directory).exists() or not self._elected():
                return
            done = self._ask()
        except (OSError, ValueError) as error:  # a disk that refuses, no process, or it died
            self._end_process()
            self._tell({str(error)})
            return
        self._observe(done)
        self._tell(set(done.failures))
        if done.damaged_lines:
            log.error("damaged lines in the spool; their files are kept", lines=done.damaged_lines)

    def _elected(self) -> bool:
        """Whether this one compacts: who was first does until it ends, however that comes."""
        from filelock import FileLock, Timeout

        if self._lock is None:
            self._lock = FileLock(Path(self._order.directory) / ".compactor.lock", timeout=0)
        if not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                return False
        return True

    def _ask(self) -> Pass:
        process = self._process or self._start_process()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        told = process.stdout.readline()
        if not told:
            raise OSError("the process that compacts ended")
        return Pass(**json.loads(told))

    def _start_process(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C reaches the service alone, which ends this in order
        )
        assert self._process.stdin is not None
        # By its input: an address of a database may hold a password, and anyone can read a command line.
        self._process.stdin.write(json.dumps(asdict(self._order)) + "\n")
        return self._process

    def _end(self) -> None:
        self._end_process()
        if self._lock is not None:
            self._lock.release()

    def _end_process(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        with suppress(BrokenPipeError), process:  # closes its input, which ends it, and waits; the dead read no line
            pass

    def _tell(self, failing: set[str]) -> None:
        """Log what is new among the failures, and that all are over."""
        for failure in sorted(failing - self._failing):
            log.error("events cannot be compacted; they are kept and read where they are", error=failure)
        if self._failing and not failing:
            log.info("events are compacted again")
        self._failing = failing
