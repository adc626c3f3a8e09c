"""Compaction beside a service: a thread that does a pass now and then, and never disturbs who started it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.observability.logging import get_logger

if TYPE_CHECKING:
    from lnmt.monitoring.event_index import EventIndex
    from lnmt.monitoring.events import EventWriter

log = get_logger(__name__)

INTERVAL_S = 20.0


class Compactor:
    """Compacts `directory` every `interval_s` seconds; of several on one machine one works at a time.

    `writer`: the service's own, whose file is closed when it is old, also where nothing more is asked.
    `keep_s`: seconds for which segments are kept; None: for ever. `observe`: gets a pass's seconds. What
    fails is logged once, and tried again at the next pass; until then events stay where they are and are read
    from there.
    """

    def __init__(
        self,
        directory: Path,
        database_url: str,
        writer: EventWriter | None = None,
        *,
        interval_s: float = INTERVAL_S,
        keep_s: float | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._directory = directory
        self._database_url = database_url
        self._writer = writer
        self._interval_s = interval_s
        self._keep_s = keep_s
        self._observe = observe
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: set[str] = set()

    def start(self) -> None:
        """Begin; the first pass comes after one interval."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="lnmt-compactor", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End after the step it is at; one that takes longer goes on alone, and may be cut off with the process."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def _run(self) -> None:
        from lnmt.monitoring.event_index import EventIndex

        with EventIndex(self._database_url) as index:
            while not self._stop.wait(self._interval_s):
                self.run_pass(index)

    def run_pass(self, index: EventIndex) -> None:
        """One pass, now; raises nothing."""
        from lnmt.monitoring.compaction import compact

        began = time.perf_counter()
        try:
            if self._writer is not None:
                self._writer.rotate()
            done = compact(self._directory, index, keep_s=self._keep_s)
        except Exception as error:  # whatever it is: answers do not depend on it
            self._tell({str(error)})
            return
        if done is None:  # another process is at it, and tells
            return
        self._observe(time.perf_counter() - began)
        self._tell({str(failure) for failure in done.failures})
        if done.damaged_lines:
            log.error("damaged lines in the spool; their files are kept", lines=done.damaged_lines)

    def _tell(self, failing: set[str]) -> None:
        """Log what is new among the failures, and that all are over."""
        for failure in sorted(failing - self._failing):
            log.error("events cannot be compacted; they are kept and read where they are", error=failure)
        if self._failing and not failing:
            log.info("events are compacted again")
        self._failing = failing
