"""Arrays and columns that lie in several files, read as if they lay in one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Joined:
    """One-dimensional arrays, one after the other; nothing is copied but slices that reach over an edge."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        """`parts`: at least one, all of one dtype."""
        self._parts = list(parts)
        self._starts = [0, *accumulate(map(len, parts))]
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: slice) -> NDArray[Any]:
        start, stop, step = place.indices(len(self))
        assert step == 1, "rows are read forwards"
        first = bisect_right(self._starts, start, hi=len(self._parts)) - 1
        if stop <= self._starts[first + 1]:
            return self._parts[first][start - self._starts[first] : stop - self._starts[first]]
        pieces = []
        for part, begins in zip(self._parts[first:], self._starts[first:], strict=False):
            if begins >= stop:
                break
            pieces.append(part[max(start - begins, 0) : stop - begins])
        return np.concatenate(pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self._parts, dtype=dtype)


class Strings(Sequence[str]):
    """Columns of strings, one after the other, as one; a string becomes a Python object when it is asked for."""

    def __init__(self, columns: Sequence[pa.StringArray]) -> None:
        self._columns = list(columns)
        self._starts = [0, *accumulate(map(len, columns))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]  # negative ones count from the end; IndexError beyond it
        column = bisect_right(self._starts, place) - 1
        text: str = self._columns[column][place - self._starts[column]].as_py()
        return text

    def take(self, places: NDArray[np.int64]) -> list[str]:
        """Those at `places`; faster than one by one."""
        if len(self._columns) > 1:
            return [self[place] for place in places.tolist()]
        found: list[str] = self._columns[0].take(pa.array(places)).to_pylist() if len(places) else []
        return found


class BlockNames(Sequence[str]):
    """Names of equal blocks of a text that many documents make up: `document@token`, where the block begins in it."""

    def __init__(self, documents: Sequence[str], ends: NDArray[np.int64], blocks: int, size: int) -> None:
        """`ends`: where each document ends in the whole text, in tokens; `size`: of a block."""
        self._documents = documents
        self._ends = ends
        self._blocks = blocks
        self._size = size

    def __len__(self) -> int:
        return self._blocks

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        start = range(self._blocks)[place] * self._size
        document = int(np.searchsorted(self._ends, start, side="right"))
        begins = int(self._ends[document - 1]) if document else 0
        return f"{self._documents[document]}@{start - begins}"
