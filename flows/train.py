"""Data to an engine that may ship: every stage, in order, through DVC."""

from __future__ import annotations

from prefect import flow

from lnmt.drive.run import StageResult
from tasks import stages


@flow(name="train")
def train() -> list[StageResult]:
    """Bring the pipeline up to date; what is up to date is passed over."""
    return [
        stages.ingest(),
        stages.validate(),
        stages.process(),
        stages.train(),
        stages.evaluate(),
        stages.gate(),
        stages.optimize(),
    ]
