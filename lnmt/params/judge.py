"""`evaluate`, `gate`, `optimize`: how good is good enough, and how fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnmt.params.section import Count, Section, Share


class EvaluateParams(Section):
    baselines: list[str]
    slices: list[str]
    length_edges: list[Count]
    min_slice_rows: Count
    bootstrap_samples: Count
    confidence: Share
    seed: int


class Gate(Section):
    """`metric` on test: `at_least`, `at_most` a number, or better than the baseline `above`, `by` so much."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    above: str | None = None
    by: float | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Gate:
        rules = [self.at_least is not None, self.at_most is not None, self.above is not None]
        if sum(rules) != 1 or (self.above is None) != (self.by is None):
            raise ValueError("give exactly one of `at_least`, `at_most`, or `above` together with `by`")
        return self


class OptimizeParams(Section):
    engines: Annotated[list[str], Field(min_length=1)]
    precisions: Annotated[list[Literal["fp32", "bf16"]], Field(min_length=1)]
    max_flip_share: Share
    max_metric_loss: Share
    batch_sizes: Annotated[list[Count], Field(min_length=1)]
    objective_batch_size: Count
    rounds: Count
    warmup_rounds: Count
    confidence: Share
    bootstrap_samples: Count
    threads: Count | None
    seed: int

    @model_validator(mode="after")
    def _objective_is_measured(self) -> OptimizeParams:
        if self.objective_batch_size not in self.batch_sizes:
            raise ValueError(f"objective_batch_size must be one of batch_sizes: {self.batch_sizes}")
        return self
