"""text-regression in the stage `evaluate`.

Legend: N = rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.labels import parse_labels
from lnmt.runtime.predictor import Predictor
from lnmt.training.evaluation.task import Answers, LabelledEvaluation, Lines, ids_of, run_outputs
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.types import LABEL, TEXT

Found = Answers[NDArray[np.float32], NDArray[np.float32]]  # numbers, both [N]


class NumberEvaluation(LabelledEvaluation[NDArray[np.float32], NDArray[np.float32]]):
    """One number a row."""

    task = "text-regression"
    metrics = NumberMetrics()
    slice_metric = "rmse"

    def answer(self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]) -> Found:
        actual = self._parse(table[LABEL].to_pylist(), table, where)
        logits, tokens = run_outputs(predictor, table[TEXT].to_pylist(), advance)
        return Answers(table, actual, logits[:, 0], tokens)

    def rows(self, answers: Found, temperature: float) -> Values:
        return NumberMetrics.rows(answers.actual, answers.found, _centre(answers))

    def guessed_rows(self, test: Found, cells: Sequence[str], where: object) -> Values:
        return NumberMetrics.rows(test.actual, self._parse(cells, test.table, where), _centre(test))

    def predictions(self, answers: Found, temperature: float) -> pa.Table:
        """label and predicted."""
        return pa.table({"label": pa.array(answers.actual), "predicted": pa.array(answers.found)})

    def tables(self, answers: Found, temperature: float) -> dict[str, Lines]:
        pairs = zip(answers.actual.tolist(), answers.found.tolist(), strict=True)
        return {"scatter.csv": (["actual", "predicted"], pairs)}

    def scatter(self, answers: Found) -> Sequence[tuple[float, float]]:
        return list(zip(answers.actual.tolist(), answers.found.tolist(), strict=True))

    def _parse(self, cells: Sequence[str | None], table: pa.Table, where: object) -> NDArray[np.float32]:
        found = parse_labels(cells, ids_of(table), self.task, (), where=where)
        assert isinstance(found, np.ndarray), "only tags are lists"
        return found.astype(np.float32)


def _centre(answers: Found) -> float:
    return float(answers.actual.mean(dtype=np.float64)) if len(answers.actual) else 0.0
