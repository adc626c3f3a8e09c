"""Rows by label and by slice, counted batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lnmt.errors import LnmtError
from lnmt.types import LABEL

MAX_SLICE_VALUES = 1000
NONE = "(none)"  # what a row without a value is counted under


class Tally:
    """Counts of one table. A slice column with more than 1,000 values is refused: it is no slice."""

    def __init__(self, slices: Sequence[str]) -> None:
        self.rows = 0
        self.labels: Counter[str] = Counter()
        self.slices: dict[str, Counter[str]] = {column: Counter() for column in slices}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch."""
        self.rows += batch.num_rows
        _count(batch.column(LABEL), self.labels)
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

    def values(self) -> dict[str, list[str]]:
        """The values seen in each slice column."""
        return {column: sorted(counts) for column, counts in self.slices.items()}

    def summary(self) -> dict[str, Any]:
        """Counts as JSON values."""
        slices = {column: dict(sorted(counts.items())) for column, counts in self.slices.items()}
        return {"rows": self.rows, "labels": dict(sorted(self.labels.items())), "slices": slices}


def _count(column: pa.Array, counts: Counter[str]) -> None:
    for entry in column.value_counts().to_pylist():
        counts[NONE if entry["values"] is None else entry["values"]] += entry["counts"]
