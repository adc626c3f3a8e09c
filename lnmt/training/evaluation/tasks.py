"""The evaluation of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lnmt.bundles import Bundle
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.evaluation.classification import LabelEvaluation
from lnmt.training.evaluation.generation import LanguageEvaluation
from lnmt.training.evaluation.multi_label import LabelSetEvaluation
from lnmt.training.evaluation.regression import NumberEvaluation
from lnmt.training.evaluation.tagging import TagEvaluation
from lnmt.training.evaluation.task import TaskEvaluation
from lnmt.types import Task

EVALUATIONS: Mapping[Task, Callable[[Bundle], TaskEvaluation[Any, Any]]] = {
    "text-classification": lambda bundle: LabelEvaluation(bundle.manifest.labels),
    "multi-label-classification": lambda bundle: LabelSetEvaluation(bundle.manifest.labels),
    "text-regression": lambda bundle: NumberEvaluation(),
    "token-classification": lambda bundle: TagEvaluation(bundle.manifest.labels),
    "text-generation": lambda bundle: LanguageEvaluation(
        Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.max_tokens)
    ),
}
