"""A split as token ids in memory, and the order in which training sees it.

Legend: N = rows, B = rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnmt.data.tables import count_rows, read_batches
from lnmt.errors import LnmtError, UnknownName
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import ID, LABEL, TEXT

MEGABATCH = 64  # batches that are sorted by length together: little padding, and still much chance
READ_ROWS = 8192


@dataclass(frozen=True)
class Examples:
    """A tokenised split: about 4 bytes a token, so that ten million sentences fit in memory."""

    tokens: NDArray[np.int32]  # of all rows, one after the other
    starts: NDArray[np.int64]  # [N + 1], where each row begins
    labels: NDArray[np.int64]  # [N], places in the label list
    ids: Sequence[str]  # [N], of the rows in the table

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, [N]."""
        return np.diff(self.starts)

    def rows(self, places: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """The token ids of the rows at `places`."""
        return [self.tokens[self.starts[place] : self.starts[place + 1]] for place in places]


def load_examples(directory: Path, labels: Sequence[str], tokenizer: Tokenizer, progress: Progress) -> Examples:
    """Read and tokenise the split in `directory`, once.

    Raises UnknownName for a label outside `labels`, LnmtError for a row without one.
    """
    places = {label: place for place, label in enumerate(labels)}
    tokens: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    ids: list[str] = []
    with progress.bar(f"tokenise {directory.name}", count_rows(directory)) as bar:
        for batch in read_batches(directory, (ID, TEXT, LABEL), READ_ROWS):
            names = batch.column(ID).to_pylist()
            targets.append(_targets(batch.column(LABEL).to_pylist(), names, places, directory))
            encoded = tokenizer.encode(batch.column(TEXT).to_pylist())
            lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
            tokens.append(np.fromiter((token for row in encoded for token in row), dtype=np.int32))
            ids.extend(names)
            bar.advance(len(names))
    starts = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
    return Examples(
        tokens=np.concatenate([np.empty(0, np.int32), *tokens]),
        starts=starts,
        labels=np.concatenate([np.empty(0, np.int64), *targets]),
        ids=ids,
    )


def _targets(
    values: Sequence[str | None], names: Sequence[str], places: dict[str, int], directory: Path
) -> NDArray[np.int64]:
    for value, name in zip(values, names, strict=True):
        if value is None:
            raise LnmtError(
                "a row has no label",
                where=directory,
                value=f"row {name}",
                fix="run validation, which quarantines such rows: dvc repro validate process",
            )
        if value not in places:
            raise UnknownName("label", value, places, where=f"{directory}, row {name}")
    return np.array([places[value] for value in values if value is not None], dtype=np.int64)


def batch_order(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Batches of row places for one epoch; every row once, at most one batch short.

    Rows are shuffled, sorted by length within groups of MEGABATCH batches, cut into batches, and
    these are shuffled. A function of its arguments alone: a resumed run finds its place by counting.
    """
    random = np.random.Generator(np.random.PCG64([seed & 0xFFFFFFFF, epoch]))
    order = random.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * MEGABATCH):
        group = order[start : start + batch_size * MEGABATCH]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches.extend(group[at : at + batch_size] for at in range(0, len(group), batch_size))
    return [batches[place] for place in random.permutation(len(batches))]


def length_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Batches of row places sorted by length, for evaluation: nearly no padding, always the same."""
    order = np.argsort(lengths, kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
