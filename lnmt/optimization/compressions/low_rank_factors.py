"""The best factors of a weight at every rank, and what each rank loses.

Legend: I, O = inputs and outputs of a linear layer, R = rank, N = calibration tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lnmt.models.low_rank import parts
from lnmt.optimization.compressions.moments import Moments

RIDGE = 1e-6  # added to the inputs' covariance, in shares of their mean variance


@dataclass(frozen=True)
class Spectrum:
    """A weight [O, I] turned so that its first R directions are the R best."""

    left: Tensor  # [O, min(O, I)], orthonormal columns, fp64
    right: Tensor  # [min(O, I), I]: left · right is the weight
    lost: Tensor  # [min(O, I) + 1], what rank 0, 1, … loses of the outputs' energy; the last is 0

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """`up` [O, R] and `down` [R, I], fp32, each direction spread evenly over both so that both learn alike."""
        left, right = self.left[:, :rank], self.right[:rank]
        size = right.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        return (left * size).float(), (right / size[:, None]).float()


def spectrum(weight: Tensor, moments: Moments) -> Spectrum:
    """The spectrum of a weight [O, I] for inputs of these moments.

    Of all matrices M of rank R the one that is least wrong on the inputs, E‖(W − M)(x − x̄)‖² at its least, is
    U Uᵀ W, where U are the first R left singular vectors of W C^½ and C is the inputs' covariance (Chen et al.,
    DRONE, 2021, theorem 1; Wang et al., SVD-LLM, 2024, get there by whitening). Nothing is inverted, so a singular C
    does no harm; a ridge of RIDGE keeps directions without any variance in order, so that the full rank is exact
    for all inputs. Inputs that are constant have no variance at all: they count as unknown ones, and nothing is lost
    by them.
    """
    weight = weight.detach().double()
    variance = float(moments.covariance.diagonal().mean())
    left, strengths, _ = torch.linalg.svd(weight @ _root(moments.covariance, variance), full_matrices=False)
    energy = strengths.square() * (variance > 0)
    lost = torch.cat([energy.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
    return Spectrum(left, left.mT @ weight, lost)


def _root(covariance: Tensor, variance: float) -> Tensor:
    """A square root [I, I] of the covariance with its ridge: root · rootᵀ. Its mean is `variance`."""
    eye = torch.eye(len(covariance), dtype=torch.float64)
    ridge = RIDGE * variance if variance > 0 else 1.0
    while True:
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(covariance + ridge * eye)
        if int(failed) == 0:
            return root
        ridge *= 10  # rounding has made it indefinite by more than the ridge


def block_spectra(weight: Tensor, moments: Moments, count: int) -> list[list[Spectrum]]:
    """The spectra of a weight's blocks, `count` a side, as if the inputs' parts had nothing to do with each other."""
    rows = torch.split(weight, parts(weight.shape[0], count))
    found: list[list[Spectrum]] = [[] for _ in rows]
    start = 0
    for width in parts(weight.shape[1], count):
        known = moments.part(start, start + width)
        for place, row in enumerate(rows):
            found[place].append(spectrum(row[:, start : start + width], known))
        start += width
    return found
