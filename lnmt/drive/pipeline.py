"""The stages in order, each through DVC."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from lnmt.drive.run import StageResult, run_stage_by_dvc
from lnmt.settings import Settings
from lnmt.stages import STAGES, find_stage, upstream


class Watcher(Protocol):
    """Shows one stage while it runs."""

    def progress(self, record: dict[str, Any]) -> None:
        """A line of the stage's progress file."""

    def log(self, line: str) -> None:
        """A line that DVC or the stage printed."""

    def ended(self, result: StageResult) -> None:
        """The stage ended well."""


def run_pipeline(
    until: str | None, settings: Settings, watch: Callable[[str], AbstractContextManager[Watcher]], *, wait_s: float
) -> list[StageResult]:
    """Every stage up to `until` (None: all), in order; those that are up to date are passed over.

    Raises the first stage's error; what ran before it stays.
    """
    names = [stage.name for stage in STAGES] if until is None else [*upstream(find_stage(until)), until]
    results = []
    for name in names:
        with watch(name) as watcher:
            result = run_stage_by_dvc(name, settings, on_progress=watcher.progress, on_log=watcher.log, wait_s=wait_s)
            watcher.ended(result)
        results.append(result)
    return results
