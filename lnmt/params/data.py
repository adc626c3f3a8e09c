"""`validate` and `process`: which rows may stay, and how they are split."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lnmt.params.section import Count, Plugin, Section, Share


class ValidateParams(Section):
    labels: Annotated[list[str], Field(min_length=2)] | None  # null: the task has no label set
    min_characters: Count
    max_characters: Count
    min_letter_share: Share
    max_replacement_share: Share
    max_other_script_share: Share
    min_rows: Count
    min_label_share: Share
    max_label_share: Share
    max_duplicate_share: Share
    max_quarantined_share: Share

    @model_validator(mode="after")
    def _labels_differ(self) -> ValidateParams:
        names = self.labels or []
        if len(set(names)) != len(names) or "" in names:
            raise ValueError(f"labels are named once each, and have a name: {names}")
        return self


class SplitShares(Section):
    train: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _sum(self) -> SplitShares:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must sum to 1")
        return self


class ProcessParams(Section):
    processors: list[Plugin]
    split: SplitShares
    salt: str
    holdout: dict[str, list[str]]
