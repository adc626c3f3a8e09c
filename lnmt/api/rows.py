"""The rows of a `Dataset`: the columns asked for, the labels that are found, and what is wrong with a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lnmt.bundles.manifest import LEAST_LABELS
from lnmt.data.labels import cell_names, cell_problem
from lnmt.data.sources.source import Wanted
from lnmt.errors import LnmtError, UnknownName
from lnmt.types import ID, LABEL, TEXT, WITHOUT_LABELS, Task


@dataclass(frozen=True)
class Asked(Wanted):
    """Columns that a caller named."""

    def choose(self, found: Sequence[str], where: object) -> list[str]:
        for name in (self.columns.text, self.columns.label, self.columns.id):
            if name is not None and name not in found:
                raise UnknownName("column", name, found, where=where)
        return super().choose(found, where)


def found_labels(table: pa.Table, task: Task) -> tuple[str, ...]:
    """The names in the label column, sorted; of tags `O` first."""
    if task in WITHOUT_LABELS:
        return ()
    names: set[str] = set()
    for cell in table[LABEL].unique().to_pylist():
        if cell is not None:
            try:
                names.update(cell_names(cell, task))
            except ValueError:
                continue  # `check_rows` tells which row it is
    return tuple(sorted(names, key=lambda name: (name != "O", name)))


def check_rows(table: pa.Table, task: Task, labels: Sequence[str], *, where: object) -> None:
    """Raise LnmtError for the first row that cannot be learnt from, or where the label set is too small."""
    if task in WITHOUT_LABELS and labels:
        raise LnmtError(f"{task} has no labels", where=where, value=", ".join(labels), fix="leave `labels` out")
    known = frozenset(labels)
    columns = (table[name].to_pylist() for name in (ID, TEXT, LABEL))
    for name, text, cell in zip(*columns, strict=True):
        if not text:
            raise LnmtError("a row has no text", where=where, value=f"row {name}", fix="fill it, or take the row out")
        problem = cell_problem(cell, text, task, known)
        if problem is not None:
            raise LnmtError(
                problem,
                where=where,
                value=f"row {name}: {cell!r}",
                allowed=", ".join(labels) or None,
                fix="mend the row or take it out; the pipeline (`lnmt run`) puts such rows into quarantine",
            )
    if len(labels) < LEAST_LABELS.get(task, 0):
        raise LnmtError(
            f"{task} needs at least {LEAST_LABELS[task]} labels",
            where=where,
            value=", ".join(labels) or "none",
            fix="give more rows, or the whole label set: labels=[…]",
        )
