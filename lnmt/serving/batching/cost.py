"""How long an engine takes for a batch, learned from the batches that it ran."""

from __future__ import annotations

import numpy as np

FORGET = 0.98  # a batch's weight after each later one: half after 34
SWEEPS = 8  # of coordinate descent; three coefficients settle in fewer


class BatchCost:
    """Seconds ≈ fixed + by_token × padded tokens + by_row × rows, no coefficient below zero.

    Least squares with exponential forgetting, solved by cyclic coordinate descent on the normal
    equations (Franc, Hlaváč, Navara: Sequential coordinate-wise algorithm for the non-negative least
    squares problem, 2005). Each batch is weighted by 1 / tokens², so that short ones count as much.
    """

    def __init__(self, fixed_s: float = 1e-3, by_token_s: float = 2e-5, by_row_s: float = 1e-4) -> None:
        self._coefficients = [fixed_s, by_token_s, by_row_s]
        self._square = np.zeros((3, 3))
        self._right = np.zeros(3)
        self.batches = 0

    @property
    def fixed_s(self) -> float:
        """What a batch costs before its first row: what is saved where two become one."""
        return self._coefficients[0]

    @property
    def by_token_s(self) -> float:
        """What a token costs, padding too."""
        return self._coefficients[1]

    def seconds(self, tokens: int, rows: int) -> float:
        """The time expected for a batch of so many padded tokens."""
        fixed, by_token, by_row = self._coefficients
        return fixed + by_token * tokens + by_row * rows

    def learn(self, tokens: int, rows: int, seconds: float) -> None:
        """Take in a batch that the engine ran; `tokens` at least 1."""
        features = np.array([1.0, tokens, rows]) / tokens
        self._square = FORGET * self._square + np.outer(features, features)
        self._right = FORGET * self._right + features * (seconds / tokens)
        self.batches += 1
        square, right, found = self._square.tolist(), self._right.tolist(), list(self._coefficients)
        for _ in range(SWEEPS):
            for at in range(3):
                rest = sum(square[at][other] * found[other] for other in range(3) if other != at)
                found[at] = max(0.0, (right[at] - rest) / square[at][at])
        self._coefficients = found
