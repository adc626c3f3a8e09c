"""One Prefect task for each line of lnmt/stages.py, under its name; each goes through DVC."""

from __future__ import annotations

from prefect import Task

from lnmt.drive.run import StageResult, run_stage_by_dvc
from lnmt.stages import find_stage
from tasks.artifacts import publish_stage
from tasks.policy import edge, lnmt_task
from tasks.progress import mirror

HOUR_S = 3600.0
TIMEOUT_S = {"train": 24 * HOUR_S, "ingest": 12 * HOUR_S, "optimize": 6 * HOUR_S}


def stage_task(name: str) -> Task[[], StageResult]:
    """The task that brings the stage `name` up to date."""
    find_stage(name)

    @lnmt_task(name, timeout_s=TIMEOUT_S.get(name, 3 * HOUR_S), tags={"lnmt", "stage"})
    def run() -> StageResult:
        settings = edge()
        with mirror(name) as shown:
            result = run_stage_by_dvc(name, settings, on_progress=shown.progress, on_log=shown.log)
            shown.ended(result)
        publish_stage(result, settings)
        return result

    return run


ingest = stage_task("ingest")
validate = stage_task("validate")
process = stage_task("process")
train = stage_task("train")
evaluate = stage_task("evaluate")
gate = stage_task("gate")
optimize = stage_task("optimize")
