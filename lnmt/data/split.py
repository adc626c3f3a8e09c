"""Which rows train, validate and test: decided by the wording alone, so that new rows move no old one.

Legend: N = rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lnmt.data.hash_spill import HashSpill
from lnmt.data.keys import text_hashes
from lnmt.data.tables import read_batches
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import SplitShares
from lnmt.types import TEXT, Split

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test", "holdout")
LEARNT: Final[tuple[Literal["train", "validation", "test"], ...]] = ("train", "validation", "test")
HOLDOUT = SPLITS.index("holdout")


class Splitter:
    """Draws a number in 0…1 from the hash of salt and wording, and looks up whose share it falls in."""

    def __init__(self, shares: SplitShares, salt: str) -> None:
        self._salt = salt
        wanted = [getattr(shares, name) for name in LEARNT]
        self._codes = np.array([code for code, share in enumerate(wanted) if share > 0], dtype=np.uint32)
        # the last share takes what rounding leaves of the whole
        self._edges = np.cumsum([share for share in wanted if share > 0])[:-1]

    def hashes(self, texts: Sequence[str]) -> NDArray[np.uint64]:
        """The hashes [N, 2] that `codes` reads; equal for texts of the same wording."""
        return text_hashes(texts, self._salt)

    def codes(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Places [N] in SPLITS; never holdout."""
        uniform = hashes[:, 0].astype(np.float64) / 2.0**64
        return self._codes[np.searchsorted(self._edges, uniform, side="right")]

    def split(self, text: str) -> Split:
        """The split of one text."""
        return SPLITS[int(self.codes(self.hashes([text]))[0])]


class Holdout:
    """The rows that no model sees: those with one of the values of `process.holdout` in a slice column."""

    def __init__(self, holdout: dict[str, list[str]], slices: Sequence[str]) -> None:
        for column in holdout:
            if column not in slices:
                raise UnknownName("slice column", column, slices, where="params.yaml: process.holdout")
        self._wanted = {column: pa.array(values, pa.string()) for column, values in holdout.items()}
        self._missing = {(column, value) for column, values in holdout.items() for value in values}

    def mask(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """True [N] where a row is held out."""
        held = np.zeros(batch.num_rows, dtype=np.bool_)
        for column, values in self._wanted.items():
            found = pc.is_in(batch.column(column), value_set=values)
            held |= found.to_numpy(zero_copy_only=False)
            if self._missing:
                self._missing -= {(column, value) for value in batch.column(column).filter(found).unique().to_pylist()}
        return held

    def check_found(self, seen: dict[str, list[str]]) -> None:
        """Raise LnmtError where a value that should be held out stands in no row; `seen`: values by column."""
        for column, value in sorted(self._missing):
            raise LnmtError(
                "process.holdout names a value that no row has",
                where=f"params.yaml: process.holdout.{column}",
                value=value,
                allowed=", ".join(seen.get(column, [])) or "the column is empty",
                fix="mend the value, or take it out of process.holdout",
            )


def check_leaks(spill: HashSpill, directory: Path, splitter: Splitter) -> int:
    """Raise LnmtError where train, validation and test share a wording; returns the wordings shared with holdout.

    `spill` has the hashes of every row of the splits, tagged by their place in SPLITS; `directory` holds the splits.
    """
    leaked, with_holdout = 0, 0
    example: NDArray[np.uint64] | None = None
    for group in spill.groups():
        starts = np.flatnonzero(group.first)
        learnt = group.tags != HOLDOUT
        lowest = np.minimum.reduceat(np.where(learnt, group.tags, np.uint32(len(SPLITS))), starts)
        highest = np.maximum.reduceat(np.where(learnt, group.tags, np.uint32(0)), starts)
        some = np.logical_or.reduceat(learnt, starts)
        bad = starts[some & (lowest != highest)]
        if example is None and len(bad):
            example = group.hashes[bad[0]]
        leaked += len(bad)
        with_holdout += int((some & np.logical_or.reduceat(~learnt, starts)).sum())
    if example is not None:
        found = {name: _find(directory / name, example, splitter) for name in LEARNT}
        raise LnmtError(
            f"{leaked} texts stand in more than one of train, validation and test",
            where="data/processed",
            value="; ".join(f"{name}: {text[:80]!r}" for name, text in found.items() if text is not None),
            allowed="each wording in one split",
            fix="a training-only processor made it: let it ask `bench.belongs(text)` before it gives a row",
        )
    return with_holdout


def _find(directory: Path, wanted: NDArray[np.uint64], splitter: Splitter) -> str | None:
    """The first text of a table that has this hash."""
    for batch in read_batches(directory, [TEXT]):
        texts: list[str] = batch.column(TEXT).to_pylist()
        places = np.flatnonzero((splitter.hashes(texts) == wanted).all(axis=1))
        if len(places):
            return texts[int(places[0])]
    return None
