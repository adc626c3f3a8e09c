"""What a new project of each task begins with; the rest of its params.yaml is the shipped one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnmt.types import Task

CAUSAL_MODEL = "hf:openai-community/gpt2"  # the shipped encoder reads both ways, and can write nothing


@dataclass(frozen=True)
class Start:
    """Entries of params.yaml that the task decides."""

    model: Mapping[str, Any]  # train.model
    baselines: tuple[str, ...]  # evaluate.baselines
    gates: tuple[Mapping[str, Any], ...]  # gate: a model that does not beat the baselines does not ship
    slices: tuple[str, ...] = ("length",)  # evaluate.slices, behind the columns that were asked for


STARTS: Mapping[Task, Start] = {
    "text-classification": Start(
        model={"name": "encoder_classifier", "dropout": 0.1},
        baselines=("majority", "tfidf"),
        gates=(
            {"metric": "macro_f1", "above": "majority", "by": 0.05},
            {"metric": "macro_f1", "above": "tfidf", "by": 0.0},
        ),
        slices=("length", "label"),
    ),
    "multi-label-classification": Start(
        model={"name": "encoder_classifier", "dropout": 0.1},
        baselines=("prior", "tfidf"),
        gates=(
            {"metric": "micro_f1", "above": "prior", "by": 0.05},
            {"metric": "micro_f1", "above": "tfidf", "by": 0.0},
        ),
        slices=("length", "label"),
    ),
    "text-regression": Start(
        model={"name": "encoder_classifier", "dropout": 0.1},
        baselines=("mean", "tfidf"),
        gates=(
            {"metric": "r2", "above": "mean", "by": 0.05},  # a share of the variance: free of the label's unit
            {"metric": "rmse", "above": "tfidf", "by": 0.0},
        ),
    ),
    "token-classification": Start(
        model={"name": "token_classifier", "dropout": 0.1},
        baselines=("frequent_tag",),
        gates=({"metric": "micro_f1", "above": "frequent_tag", "by": 0.02},),
    ),
    "text-generation": Start(
        model={"name": "causal_lm"},
        baselines=("unigram",),
        gates=({"metric": "loss", "above": "unigram", "by": 0.5},),  # nats a token
    ),
}
