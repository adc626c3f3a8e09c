"""Which rows have equal hashes, found on disk: memory does not grow with the number of rows.

Records go to one file per range of hashes; equal ones meet in the same file, which is sorted alone.
Legend: N = rows of a call, R = records of one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8"), ("tag", "<u4")])
_BITS = 7  # 128 files: ten million rows make files of 2 MB


@dataclass(frozen=True)
class Group:
    """Everything one file holds, equal hashes beside each other and in order of row."""

    hashes: NDArray[np.uint64]  # [R, 2]
    rows: NDArray[np.uint64]  # [R] row numbers
    tags: NDArray[np.uint32]  # [R]
    first: NDArray[np.bool_]  # [R] true where a hash stands for the first time

    def mixed(self) -> NDArray[np.int64]:
        """Indices [M] of the first records of hashes that carry more than one tag."""
        starts = np.flatnonzero(self.first)
        lowest, highest = np.minimum.reduceat(self.tags, starts), np.maximum.reduceat(self.tags, starts)
        return starts[np.flatnonzero(lowest != highest)]


class HashSpill:
    """Takes 128-bit hashes with a small number (`tag`) each, and gives back those that are equal.

    Rows are numbered in the order they are added. `directory` is made; whoever made its parent removes it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.rows = 0

    def add(self, hashes: NDArray[np.uint64], tags: NDArray[np.uint32]) -> None:
        """Append rows: hashes [N, 2], tags [N]."""
        records = np.empty(len(hashes), dtype=_RECORD)
        records["high"], records["low"] = hashes[:, 0], hashes[:, 1]
        records["row"] = np.arange(self.rows, self.rows + len(hashes), dtype=np.uint64)
        records["tag"] = tags
        self.rows += len(hashes)
        part = (hashes[:, 0] >> np.uint64(64 - _BITS)).astype(np.int64)
        order = np.argsort(part, kind="stable")
        edges = np.searchsorted(part[order], np.arange(2**_BITS + 1))
        records = records[order]
        for index in np.flatnonzero(np.diff(edges)):
            with self._file(int(index)).open("ab") as file:
                file.write(records[edges[index] : edges[index + 1]].tobytes())

    def groups(self) -> Iterator[Group]:
        """All records, one file at a time."""
        for index in range(2**_BITS):
            if not self._file(index).exists():
                continue
            records = np.fromfile(self._file(index), dtype=_RECORD)
            # lexsort is stable, so that equal hashes keep the order of their rows
            records = records[np.lexsort((records["low"], records["high"]))]
            first = np.ones(len(records), dtype=np.bool_)
            first[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
            hashes = np.stack([records["high"], records["low"]], axis=1)
            yield Group(hashes, records["row"].copy(), records["tag"].copy(), first)

    def repeats(self) -> int:
        """Rows whose hash an earlier row has."""
        return sum(int((~group.first).sum()) for group in self.groups())

    def mixed(self) -> int:
        """Hashes that carry more than one tag."""
        return sum(len(group.mixed()) for group in self.groups())

    def _file(self, index: int) -> Path:
        return self._directory / f"{index:03d}.records"
