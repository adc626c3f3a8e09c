"""multi-label-classification in the stage `evaluate`.

Legend: N = rows, C = labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.labels import parse_labels
from lnmt.runtime.predictor import Predictor
from lnmt.training.calibration import fit_binary_temperature, sigmoid
from lnmt.training.evaluation.classification import bin_lines
from lnmt.training.evaluation.task import Answers, LabelledEvaluation, Lines, ids_of, run_outputs
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.multi_label import THRESHOLD, LabelSetMetrics, LabelSetScoreMetrics
from lnmt.training.metrics.reliability import ReliabilityBin, decision_bins
from lnmt.types import LABEL, TEXT

Found = Answers[NDArray[np.float32], NDArray[np.float32]]  # 1 where a row has a label, logits; both [N, C]


class LabelSetEvaluation(LabelledEvaluation[NDArray[np.float32], NDArray[np.float32]]):
    """Any number of labels a row."""

    task = "multi-label-classification"
    calibrated = True
    slice_metric = "micro_f1"

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self.metrics = LabelSetScoreMetrics(labels)

    def answer(self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]) -> Found:
        actual = self._parse(table[LABEL].to_pylist(), table, where)
        logits, tokens = run_outputs(predictor, table[TEXT].to_pylist(), advance)
        return Answers(table, actual, logits, tokens)

    def rows(self, answers: Found, temperature: float) -> Values:
        return LabelSetMetrics.rows(answers.actual, sigmoid(answers.found, temperature))

    def fit_temperature(self, validation: Found) -> float:
        return fit_binary_temperature(validation.found, validation.actual)

    def guessed_rows(self, test: Found, cells: Sequence[str], where: object) -> Values:
        return LabelSetMetrics.rows(test.actual, self._parse(cells, test.table, where))

    def label_rows(self, answers: Found) -> Mapping[str, NDArray[np.bool_]]:
        return {label: answers.actual[:, place] > 0 for place, label in enumerate(self._labels)}

    def predictions(self, answers: Found, temperature: float) -> pa.Table:
        """label and predicted as lists, scores in the order of the labels, which stand in the schema's metadata."""
        scores = sigmoid(answers.found, temperature)
        table = pa.table(
            {
                "label": self._named(answers.actual > 0),
                "predicted": self._named(scores >= THRESHOLD),
                "scores": pa.FixedSizeListArray.from_arrays(
                    pa.array(scores.astype(np.float32).ravel()), scores.shape[1]
                ),
            }
        )
        return table.replace_schema_metadata({"labels": json.dumps(self._labels)})

    def tables(self, answers: Found, temperature: float) -> dict[str, Lines]:
        return {
            "reliability.csv": bin_lines(self.bins(answers, temperature)),
            "reliability_uncalibrated.csv": bin_lines(self.bins(answers, 1.0)),
        }

    def bins(self, answers: Found, temperature: float) -> list[ReliabilityBin]:
        """Of the N·C decisions: the score of a label, and how often it is there."""
        return decision_bins(sigmoid(answers.found, temperature).ravel(), answers.actual.ravel() > 0)

    def _parse(self, cells: Sequence[str | None], table: pa.Table, where: object) -> NDArray[np.float32]:
        found = parse_labels(cells, ids_of(table), self.task, self._labels, where=where)
        assert isinstance(found, np.ndarray), "only tags are lists"
        return found.astype(np.float32)

    def _named(self, has: NDArray[Any]) -> pa.Array:
        names = [[self._labels[place] for place in np.flatnonzero(row)] for row in has]
        return pa.array(names, pa.list_(pa.string()))
