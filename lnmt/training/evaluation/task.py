"""What each task brings to the stage `evaluate`.

Legend: N = rows of a split, D = numbers of a row of the metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.runtime.predictor import Predictor
from lnmt.training.baselines import Baseline, TextBaseline
from lnmt.training.metrics.base import TaskMetrics, Values
from lnmt.training.metrics.reliability import ReliabilityBin
from lnmt.types import LABEL, TEXT, Task

CHUNK_ROWS = 1024  # texts given to the predictor at once: it sorts them by length, and the bar moves between

Actual = TypeVar("Actual")
Found = TypeVar("Found")
Lines = tuple[Sequence[str], Iterable[Iterable[object]]]  # of a CSV file: its header, its rows


@dataclass(frozen=True)
class Answers(Generic[Actual, Found]):
    """A split, and what the model says about it."""

    table: pa.Table  # id, text, label, slice columns
    actual: Actual  # what the labels say
    found: Found  # what the model says
    tokens: NDArray[np.int64]  # [N], of each text


class TaskEvaluation(ABC, Generic[Actual, Found]):
    """One task and label set."""

    task: Task
    metrics: TaskMetrics
    calibrated = False  # whether a temperature changes anything; it is fitted on validation
    slice_metric: str  # the figure that slices are drawn by
    not_by_label: Sequence[str] = ()  # metrics that mean nothing on rows of one label

    @abstractmethod
    def answer(
        self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]
    ) -> Answers[Actual, Found]:
        """The model over every row of a split, in order; `advance` is told how many rows are done.

        Raises LnmtError or UnknownName for a label that is none, found at `where`.
        """

    @abstractmethod
    def rows(self, answers: Answers[Actual, Found], temperature: float) -> Values:
        """The rows [N, D] of `metrics`."""

    def fit_temperature(self, validation: Answers[Actual, Found]) -> float:
        """The temperature that makes scores mean what they say; 1 for a task without scores."""
        return 1.0

    @abstractmethod
    def baseline_rows(self, baseline: Baseline, train: pa.Table, test: Answers[Actual, Found], where: object) -> Values:
        """A baseline, fitted on the table of the training split, on the rows of test: [N, D] of `metrics.compared`."""

    def label_rows(self, answers: Answers[Actual, Found]) -> Mapping[str, NDArray[np.bool_]]:
        """The rows [N] of each label, for the slice `label`; none where rows have no labels."""
        return {}

    def detail(self, rows: Values) -> dict[str, Any]:
        """What metrics.json tells beside figures by name, of rows of `metrics` or of `metrics.compared`."""
        return {}

    @abstractmethod
    def predictions(self, answers: Answers[Actual, Found], temperature: float) -> pa.Table:
        """predictions.parquet without its ids: a row for each of the split's."""

    def tables(self, answers: Answers[Actual, Found], temperature: float) -> dict[str, Lines]:
        """CSV files to plot, by name."""
        return {}

    def bins(self, answers: Answers[Actual, Found], temperature: float) -> list[ReliabilityBin]:
        """Confidence against what came true, at a temperature; none for a task without scores."""
        return []

    def scatter(self, answers: Answers[Actual, Found]) -> Sequence[tuple[float, float]]:
        """Actual and predicted numbers, for a picture; none for other tasks."""
        return []


class LabelledEvaluation(TaskEvaluation[Actual, Found]):
    """A task whose rows have labels, which baselines guess."""

    def baseline_rows(self, baseline: Baseline, train: pa.Table, test: Answers[Actual, Found], where: object) -> Values:
        assert isinstance(baseline, TextBaseline), "a TokenBaseline is of text-generation alone"
        baseline.fit(train[TEXT].to_pylist(), train[LABEL].to_pylist())
        return self.guessed_rows(test, baseline.predict(test.table[TEXT].to_pylist()), where)

    @abstractmethod
    def guessed_rows(self, test: Answers[Actual, Found], cells: Sequence[str], where: object) -> Values:
        """The rows [N, D] of a baseline that says `cells` [N], as the column `label` would hold them.

        Raises LnmtError or UnknownName for one that is no label.
        """


def ids_of(table: pa.Table) -> list[str]:
    """The ids of a split's rows."""
    found: list[str] = table["id"].to_pylist()
    return found


def run_chunks(texts: Sequence[str], run: Callable[[slice], None], advance: Callable[[int], None]) -> None:
    """Call `run` for each slice of CHUNK_ROWS texts."""
    for start in range(0, len(texts), CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, len(texts)))
        run(part)
        advance(part.stop - part.start)


def run_outputs(
    predictor: Predictor, texts: Sequence[str], advance: Callable[[int], None]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits [N, C] (of regression [N, 1]) and tokens [N] of texts, for tasks with one answer a text."""
    logits = np.empty((len(texts), len(predictor.labels) or 1), dtype=np.float32)
    tokens = np.empty(len(texts), dtype=np.int64)

    def run(part: slice) -> None:
        output, tokens[part] = predictor.outputs(texts[part])
        logits[part] = output.logits

    run_chunks(texts, run, advance)
    return logits, tokens
