"""`evaluate`, `gate`: how good a model is, and how good is good enough."""

from __future__ import annotations

from pydantic import model_validator

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
