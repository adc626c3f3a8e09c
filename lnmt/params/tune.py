"""`tune`: which parameters of `train` are searched over, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lnmt.params.section import Count, Positive, Section


class Range(Section):
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class WholeRange(Section):
    """Whole numbers from `low` to `high`, both included."""

    low: Annotated[int, Field(strict=True)]
    high: Annotated[int, Field(strict=True)]
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> WholeRange:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class Choices(Section):
    """One of a list."""

    choices: Annotated[list[Any], Field(min_length=2)]


class TuneParams(Section):
    trials: Count
    timeout_s: Positive | None
    sampler: Literal["tpe", "random", "grid"]
    pruner: Literal["median", "hyperband", "none"]
    space: Annotated[dict[str, Choices | WholeRange | Range], Field(min_length=1)]  # dotted names below train
    seed: int
