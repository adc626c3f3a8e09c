"""`optimize`: what is tried, what may be lost, and what decides."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnmt.params.section import Count, Plugin, Positive, Section
from lnmt.types import Precision

Margin = Annotated[float, Field(gt=0, le=1)]  # that nothing at all is lost can never be shown


class Objective(Section):
    """What the chosen candidate has least of; of `throughput` most."""

    measure: Literal["p50", "p99", "throughput", "memory", "size"]
    batch_size: Count


class Budget(Section):
    """What a candidate may lose against the reference. Losses of a text are in 0…1, by the task."""

    max_loss: Margin
    max_slice_loss: Margin
    max_metric_loss: Margin
    max_flip_share: Margin
    max_composition_share: Margin
    min_slice_rows: Count


class EngineSettings(Section):
    """Every combination of these is tried with the fastest engines."""

    streams: Annotated[list[Count], Field(min_length=1)]
    group_rows: Annotated[list[Count | None], Field(min_length=1)]


class FineTune(Section):
    """How compressions that train do so; the rest is as in `train`."""

    epochs: Count
    lr: Positive


class OptimizeParams(Section):
    engines: Annotated[list[str], Field(min_length=1)]
    precisions: Annotated[list[Precision], Field(min_length=1)]
    compressions: list[Annotated[list[Plugin], Field(min_length=1)]]
    settings: EngineSettings
    budget: Budget
    objective: Objective
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    time_limit_s: Positive
    finalists: Count
    calibration_rows: Count
    fine_tune: FineTune
    batch_sizes: Annotated[list[Count], Field(min_length=1)]
    rounds: Count
    warmup_rounds: Count
    bootstrap_samples: Count
    threads: Count | None
    seed: int

    @model_validator(mode="after")
    def _objective_is_measured(self) -> OptimizeParams:
        if self.objective.batch_size not in self.batch_sizes:
            raise ValueError(f"objective.batch_size must be one of batch_sizes: {self.batch_sizes}")
        return self
