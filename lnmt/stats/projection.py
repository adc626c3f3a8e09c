"""A pooled state made small: what prediction events and reference profiles keep of it.

Legend: B = rows, H = pooled width, D = dimensions.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 8
SEED = 20_261_121  # part of the format: events and profiles compare only under the same projection


def project(pooled: NDArray[np.floating[Any]], dimensions: int = DIMENSIONS, seed: int = SEED) -> NDArray[np.float32]:
    """Gaussian random projection of pooled states, [B, H] → [B, D] (or [H] → [D]).

    It keeps distances in expectation (Johnson & Lindenstrauss 1984; Dasgupta & Gupta 2003) and, as
    it learns nothing, means the same for every bundle of one width, on every machine.
    """
    matrix = _matrix(pooled.shape[-1], dimensions, seed)
    return np.asarray(pooled @ matrix, dtype=np.float32)


@functools.lru_cache(maxsize=8)
def _matrix(width: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    # RandomState's stream is frozen for ever (NEP 19); a Generator's may change with numpy.
    drawn = np.random.RandomState(seed).standard_normal((width, dimensions)) / np.sqrt(dimensions)
    matrix: NDArray[np.float32] = drawn.astype(np.float32)
    matrix.setflags(write=False)
    return matrix
