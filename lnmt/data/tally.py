"""Rows by label and by slice, counted batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lnmt.data.labels import cell_names, parse_number
from lnmt.data.numbers import Numbers
from lnmt.errors import LnmtError
from lnmt.types import LABEL, Task

MAX_SLICE_VALUES = 1000
NONE = "(none)"  # what a row without a value is counted under


class Tally:
    """Counts of one table of validated rows. A slice column with more than 1,000 values is refused: it is no slice."""

    def __init__(self, slices: Sequence[str], task: Task) -> None:
        self.rows = 0
        self.labels: Counter[str] = Counter()  # rows that have the label, or a word with the tag
        self.tags: Counter[str] = Counter()  # words with the tag; token-classification alone
        self.numbers = Numbers()  # text-regression alone
        self.slices: dict[str, Counter[str]] = {column: Counter() for column in slices}
        self._task = task

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch."""
        self.rows += batch.num_rows
        self._add_labels(batch.column(LABEL))
        for column, counts in self.slices.items():
            _count(batch.column(column), counts)
            if len(counts) > MAX_SLICE_VALUES:
                raise LnmtError(
                    f"slice column {column!r} has too many values to report on",
                    where="params.yaml: ingest.slices",
                    value=f"more than {MAX_SLICE_VALUES}, such as {next(iter(counts))!r}",
                    allowed=f"at most {MAX_SLICE_VALUES} values",
                    fix="leave the column out of ingest.slices, or group its values first",
                )

    def _add_labels(self, cells: pa.Array) -> None:
        if self._task == "text-classification":
            _count(cells, self.labels)
        elif self._task == "text-regression":
            self.numbers.add(np.array([parse_number(cell) for cell in cells.to_pylist()], dtype=np.float64))
        elif self._task != "text-generation":
            for entry in cells.value_counts().to_pylist():
                for name, times in Counter(cell_names(entry["values"], self._task)).items():
                    self.labels[name] += entry["counts"]
                    if self._task == "token-classification":
                        self.tags[name] += times * entry["counts"]

    def values(self) -> dict[str, list[str]]:
        """The values seen in each slice column."""
        return {column: sorted(counts) for column, counts in self.slices.items()}

    def summary(self) -> dict[str, Any]:
        """Counts as JSON values; of `labels`, `tags` and `numbers` those that the task has."""
        found = {"labels": dict(sorted(self.labels.items())), "tags": dict(sorted(self.tags.items()))}
        slices = {column: dict(sorted(counts.items())) for column, counts in self.slices.items()}
        numbers = self.numbers.summary()
        return {
            "rows": self.rows,
            **{name: counts for name, counts in found.items() if counts},
            **({"numbers": numbers} if numbers else {}),
            "slices": slices,
        }


def _count(column: pa.Array, counts: Counter[str]) -> None:
    for entry in column.value_counts().to_pylist():
        counts[NONE if entry["values"] is None else entry["values"]] += entry["counts"]
