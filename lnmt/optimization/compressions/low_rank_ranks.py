"""How many numbers each layer may keep, so that all together lose least: pure functions.

Legend: I, O = inputs and outputs of a matrix, R = rank, P = choices of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError


@dataclass(frozen=True)
class Choices:
    """What can be made of a matrix, from the cheapest to the matrix itself."""

    ranks: tuple[int | None, ...]  # [P]; None: it stays dense
    costs: NDArray[np.int64]  # [P], numbers kept, rising
    losses: NDArray[np.float64]  # [P], falling to 0


def choices(outputs: int, inputs: int, lost: NDArray[np.float64], energy: float, multiple: int) -> Choices:
    """Of a matrix [O, I]: each rank that is a multiple of `multiple` and cheaper than the matrix, and the matrix.

    `lost`: what rank 0, 1, … loses; losses are told in shares of `energy`, so that layers of large outputs do not
    starve the others.
    """
    ranks = list(range(multiple, -(-outputs * inputs // (outputs + inputs)), multiple))
    losses = [float(lost[rank]) / energy if energy > 0 else 0.0 for rank in ranks]
    costs = [rank * (outputs + inputs) for rank in ranks]
    return Choices((*ranks, None), np.array([*costs, outputs * inputs]), np.array([*losses, 0.0]))


def allocate(matrices: Sequence[Choices], budget: float) -> list[int]:
    """The choice of each matrix, so that `budget` (a share of all their numbers) holds and the loss is small.

    Greedy: all begin at their cheapest; then again and again the step that saves most loss for each number, among
    those that still fit, to any later choice of any matrix. As the loss of a matrix falls ever more slowly with its
    rank this is the least sum of losses, up to the last steps. What would save nothing is not taken. Raises
    LnmtError where the cheapest choices are too many numbers already.
    """
    whole = sum(int(one.costs[-1]) for one in matrices)
    taken = [0] * len(matrices)
    left = int(budget * whole) - sum(int(one.costs[0]) for one in matrices)
    if left < 0:
        least = (whole * budget - left) / whole
        raise LnmtError(
            "even the smallest ranks are too many numbers for this budget",
            where="low_rank.budget",
            value=budget,
            allowed=f"at least {np.ceil(1000 * least) / 1000:.3f} for this model",
            fix="raise it, or prune the model instead",
        )
    while True:
        steps = [_next(matrix, place, left) for matrix, place in zip(matrices, taken, strict=True)]
        best = max(range(len(steps)), key=lambda place: steps[place][0], default=-1)
        if best < 0 or steps[best][0] <= 0:
            return taken
        choice = steps[best][1]
        left -= int(matrices[best].costs[choice] - matrices[best].costs[taken[best]])
        taken[best] = choice


def _next(matrix: Choices, taken: int, left: int) -> tuple[float, int]:
    """Loss saved for each number by the best later choice that fits, and that choice; 0 where there is none."""
    costs = matrix.costs[taken + 1 :] - matrix.costs[taken]
    fitting = costs[costs <= left]
    if len(fitting) == 0:
        return 0.0, taken
    saved = (matrix.losses[taken] - matrix.losses[taken + 1 :][: len(fitting)]) / fitting
    place = int(saved.argmax())
    return float(saved[place]), taken + 1 + place
