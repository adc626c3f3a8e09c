"""A running stage as others see it: Prefect's progress artifact, the run's log, and the terminal's bars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from lnmt.drive.bars import Bars, bars
from lnmt.drive.run import StageResult
from lnmt.progress import Progress
from tasks.policy import artifact_name

UPDATE_EVERY_S = 1.0


class Mirror:
    """Copies `.lnmt/progress/NAME.jsonl` into a progress artifact, at most once a second, and to `terminal`."""

    def __init__(self, name: str, terminal: Bars) -> None:
        self._terminal = terminal
        self._logger = get_run_logger()
        self._written = 0.0
        self._artifact: Any = create_progress_artifact(
            0.0, key=f"{artifact_name(name)}-progress", description=f"{name}: how far it is"
        )

    def progress(self, record: dict[str, Any]) -> None:
        """A line of the progress file; work of unknown length moves only the bar."""
        self._terminal.progress(record)
        if record.get("total") and time.monotonic() - self._written >= UPDATE_EVERY_S:
            self._written = time.monotonic()
            self._update(min(100.0, 100.0 * record["done"] / record["total"]))

    def log(self, line: str) -> None:
        """A line that DVC or the stage printed."""
        self._logger.info(line)

    def ended(self, result: StageResult) -> None:
        """A line of news on the terminal."""
        self._terminal.ended(result)

    def end(self) -> None:
        """All is done."""
        self._update(100.0)

    def _update(self, percent: float) -> None:
        update_progress_artifact(self._artifact, progress=percent)


class Mirrored(Progress):
    """Progress of work inside the task itself, told to a Mirror as it is written."""

    def __init__(self, path: Path, mirror: Mirror) -> None:
        super().__init__(path, show=False)
        self._mirror = mirror

    def write(self, line: dict[str, Any]) -> None:
        super().write(line)
        if "done" in line:
            self._mirror.progress(line)


@contextmanager
def mirror(name: str) -> Iterator[Mirror]:
    """A mirror for the work `name`, full at the end where it ended well."""
    with bars(name) as terminal:
        shown = Mirror(name, terminal)
        yield shown
    shown.end()
