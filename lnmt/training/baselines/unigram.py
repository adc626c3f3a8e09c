"""Tokens by how frequent they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lnmt.training.baselines.baseline import TokenBaseline


class Unigram(TokenBaseline):
    """Each token by its share of the training split, with one more of each (Laplace): none is impossible."""

    def fit(self, texts: Iterable[NDArray[np.int64]], vocabulary: int) -> None:
        counts = np.ones(vocabulary)
        for text in texts:
            np.add.at(counts, text, 1)
        self._nats: NDArray[np.float64] = np.log(counts.sum()) - np.log(counts)

    def score(self, text: NDArray[np.int64]) -> tuple[float, int]:
        return float(self._nats[text].sum()), int((text == self._nats.argmin()).sum())
