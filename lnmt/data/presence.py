"""What each split must hold, by task, for a model to be trained and judged on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lnmt.data.split import LEARNT
from lnmt.data.tally import Tally
from lnmt.errors import LnmtError
from lnmt.params import SplitShares
from lnmt.types import Split, Task

WHERE = "params.yaml: process.split"


def check_labels(task: Task, shares: SplitShares, labels: Sequence[str], went: Mapping[Split, Tally]) -> list[str]:
    """Raise LnmtError where a split with a share lacks what the task needs there; returns what is only worth a note.

    text-classification: every label in train, validation and test. multi-label- and token-classification: every
    label in train, a row in all three; validation and test may lack a label, whose figures there say nothing.
    text-regression: numbers that differ in all three. text-generation: a row in all three.
    """
    notes = []
    for name in LEARNT:
        if getattr(shares, name) == 0:
            continue
        tally = went[name]
        if task == "text-regression":
            _check_numbers(name, tally)
        elif task != "text-classification":
            _check_some(name, tally)
        missing = [label for label in labels if not tally.labels[label]]
        if not missing:
            continue
        kind = "tagged" if task == "token-classification" else "labelled"
        what = f"the {name} split has no row {kind} {', '.join(missing)}"
        if task != "text-classification" and name != "train":
            notes.append(f"{what}: figures of {name} say nothing of it")
            continue
        raise LnmtError(
            what,
            where=WHERE,
            value=f"{name} has {tally.rows} rows: {dict(tally.labels)}",
            allowed="every label in train, validation and test"
            if task == "text-classification"
            else "every label in train",
            fix="add rows of this label, raise the split's share, or take the label out of validate.labels",
        )
    return notes


def _check_numbers(name: Split, tally: Tally) -> None:
    if not tally.numbers.vary:
        raise LnmtError(
            f"the labels of the {name} split do not differ",
            where=WHERE,
            value=f"{tally.rows} rows" + (f", all labelled {tally.numbers.minimum:g}" if tally.rows else ""),
            allowed="at least two different numbers in train, validation and test",
            fix="add rows, or raise the split's share",
        )


def _check_some(name: Split, tally: Tally) -> None:
    if tally.rows == 0:
        raise LnmtError(
            f"the {name} split has no row",
            where=WHERE,
            value="0 rows",
            allowed="at least one row in train, validation and test",
            fix="add rows, raise the split's share, or take another process.salt",
        )
