"""The order in which rows are seen: shuffled for training, by length for evaluation.

Legend: N = rows, B = rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

MEGABATCH = 64  # batches that are sorted by length together: little padding, and still much chance


class Batches(Sequence[NDArray[np.int64]]):
    """Batches of row places, cut out of one array when they are asked for: no object for each of many batches."""

    def __init__(self, order: NDArray[np.int64], batch_size: int, places: NDArray[np.int64] | None = None) -> None:
        """`order` [N]: every row once; `places`: the order of the batches in it, None: as they stand."""
        self._order = order
        self._batch_size = batch_size
        self._places = np.arange(-(-len(order) // batch_size)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, place: slice) -> list[NDArray[np.int64]]: ...
    def __getitem__(self, place: int | slice) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        start = int(self._places[place]) * self._batch_size
        return self._order[start : start + self._batch_size]


def batch_order(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> Batches:
    """The batches of one epoch; every row once, at most one batch short.

    Rows are shuffled, sorted by length within groups of MEGABATCH batches, cut into batches, and these are
    shuffled. A function of its arguments alone: a resumed run finds its place by counting.

    The batches of a group follow one another in length, so that padding each to its longest row adds at most
    `batch_size * (longest - shortest)` tokens to a group: 1/64 of that range for each row of a full one. Log-normal
    lengths, as those of sentences are, make it less than 5 % of all tokens in batches of 32.
    """
    random = np.random.Generator(np.random.PCG64([seed & 0xFFFFFFFF, epoch]))
    order = random.permutation(len(lengths))
    for start in range(0, len(order), batch_size * MEGABATCH):
        group = order[start : start + batch_size * MEGABATCH]
        group[:] = group[np.argsort(lengths[group], kind="stable")]
    return Batches(order, batch_size, random.permutation(-(-len(order) // batch_size)))


def length_order(lengths: NDArray[np.int64], batch_size: int) -> Batches:
    """Batches of row places sorted by length, for evaluation: nearly no padding, always the same."""
    return Batches(np.argsort(lengths, kind="stable"), batch_size)
