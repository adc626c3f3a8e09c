"""text-classification in the stage `evaluate`.

Legend: N = rows, C = labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.labels import parse_labels
from lnmt.runtime.predictor import Predictor
from lnmt.training.calibration import fit_temperature, softmax
from lnmt.training.evaluation.task import Answers, LabelledEvaluation, Lines, ids_of, run_outputs
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.classification import ScoreMetrics, confusion_matrix, encode
from lnmt.training.metrics.reliability import ReliabilityBin, reliability_bins
from lnmt.types import LABEL, TEXT

Found = Answers[NDArray[np.int64], NDArray[np.float32]]  # places of labels [N], logits [N, C]


class LabelEvaluation(LabelledEvaluation[NDArray[np.int64], NDArray[np.float32]]):
    """One label a row."""

    task = "text-classification"
    calibrated = True
    slice_metric = "accuracy"  # also of rows of one label
    not_by_label = ("macro_f1",)

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self.metrics = ScoreMetrics(labels)

    def answer(self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]) -> Found:
        actual = parse_labels(table[LABEL].to_pylist(), ids_of(table), self.task, self._labels, where=where)
        assert isinstance(actual, np.ndarray), "only tags are lists"
        logits, tokens = run_outputs(predictor, table[TEXT].to_pylist(), advance)
        return Answers(table, actual.astype(np.int64), logits, tokens)

    def rows(self, answers: Found, temperature: float) -> Values:
        return ScoreMetrics.rows(answers.actual, softmax(answers.found, temperature))

    def fit_temperature(self, validation: Found) -> float:
        return fit_temperature(validation.found, validation.actual)

    def guessed_rows(self, test: Found, cells: Sequence[str], where: object) -> Values:
        return np.stack([test.actual, encode(cells, self._labels, where=where)], axis=1).astype(np.float64)

    def label_rows(self, answers: Found) -> Mapping[str, NDArray[np.bool_]]:
        return {label: answers.actual == place for place, label in enumerate(self._labels)}

    def detail(self, rows: Values) -> dict[str, Any]:
        actual, predicted = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        return {"confusion": confusion_matrix(actual, predicted, len(self._labels)).tolist()}

    def predictions(self, answers: Found, temperature: float) -> pa.Table:
        """label, predicted, scores in the order of the labels, which stand in the schema's metadata."""
        scores = softmax(answers.found, temperature).astype(np.float32)
        actual, predicted = self._named(answers)
        table = pa.table(
            {
                "label": pa.array(actual, pa.string()),
                "predicted": pa.array(predicted, pa.string()),
                "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1]),
            }
        )
        return table.replace_schema_metadata({"labels": json.dumps(self._labels)})

    def tables(self, answers: Found, temperature: float) -> dict[str, Lines]:
        return {
            "confusion.csv": (["actual", "predicted"], zip(*self._named(answers), strict=True)),
            "reliability.csv": bin_lines(self.bins(answers, temperature)),
            "reliability_uncalibrated.csv": bin_lines(self.bins(answers, 1.0)),
        }

    def bins(self, answers: Found, temperature: float) -> list[ReliabilityBin]:
        return reliability_bins(softmax(answers.found, temperature), answers.actual)

    def _named(self, answers: Found) -> tuple[list[str], list[str]]:
        """Actual and predicted labels."""
        predicted = answers.found.argmax(axis=1)
        return [self._labels[place] for place in answers.actual], [self._labels[place] for place in predicted]


def bin_lines(bins: Sequence[ReliabilityBin]) -> Lines:
    """The bins that are not empty, as lines of a CSV file."""
    return list(ReliabilityBin.__annotations__), [astuple(entry) for entry in bins if entry.rows]
