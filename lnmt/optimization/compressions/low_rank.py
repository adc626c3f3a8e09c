"""Low rank: a model's linear layers as products of narrow ones, where that is cheaper.

Legend: I, O = inputs and outputs of a linear layer, R = rank, K = blocks a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.layers import linear_layers
from lnmt.models.low_rank import BlockLowRankLinear, BlockRanks, LowRankLinear
from lnmt.models.structure import add_operation, find_module
from lnmt.optimization.compressions import WeightCompression
from lnmt.optimization.compressions.low_rank_factors import Spectrum, block_spectra
from lnmt.optimization.compressions.low_rank_ranks import allocate, choices
from lnmt.optimization.compressions.moments import Moments, moments

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop

Method = Literal["activation", "svd"]
Blocks = list[list[Spectrum]]  # [K, K], by outputs and inputs


class LowRank(WeightCompression):
    """Factors of the linear layers, heads left out; the ranks follow from one budget for all of them.

    budget: share of the linear layers' numbers that is kept, above 0 and below 1.
    method: `activation` loses least of what the layers answer on calibration texts; `svd` least of their weights.
    blocks: K; above 1 both factors are blocked, and each block has a rank of its own, see `BlockLowRankLinear`.
    multiple: ranks are multiples of it: processors multiply in tiles.
    fine_tune: whether the factors learn, with the trained model as their teacher.
    """

    def __init__(
        self,
        budget: float = 0.5,
        method: Method = "activation",
        blocks: int = 1,
        multiple: int = 16,
        fine_tune: bool = True,
    ) -> None:
        if not 0 < budget < 1:
            raise LnmtError(
                "the share of numbers to keep is out of range",
                where="low_rank.budget",
                value=budget,
                allowed="0 < budget < 1",
                fix="0.5 keeps half of them",
            )
        if method not in get_args(Method):
            raise UnknownName("method", method, get_args(Method), where="low_rank.method")
        for name, number in (("blocks", blocks), ("multiple", multiple)):
            if number < 1:
                raise LnmtError(f"{name} is below 1", where=f"low_rank.{name}", value=number, allowed="an integer ≥ 1")
        self._budget, self._method, self._blocks, self._multiple = budget, method, blocks, multiple
        self._fine_tune = fine_tune
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        found = linear_layers(model, model.heads())
        known = moments(model, found, shop.calibration) if self._method == "activation" else {}
        layers = {name: layer for name, layer in found.items() if name in known or self._method == "svd"}
        if not layers:
            raise LnmtError(
                "the model has no linear layers besides its head to factorise",
                where=f"{type(model).__module__}.{type(model).__qualname__}",
                allowed="torch.nn.Linear layers that its forward calls",
                fix="take low_rank out of params.yaml: optimize.compressions",
            )
        known = {name: _usable(known.get(name), layer) for name, layer in layers.items()}
        spectra = {}
        with shop.progress.bar("low rank", len(layers), "layers") as bar:
            for name, layer in layers.items():
                spectra[name] = block_spectra(layer.weight, known[name], self._blocks)
                bar.advance()
        ranks = self._choose(layers, spectra)
        factorise(model, ranks, spectra, known)
        return shop.fine_tune(model) if self._fine_tune else model.eval()

    def decided(self) -> dict[str, Any]:
        return self._decided

    def _choose(self, layers: Mapping[str, nn.Linear], spectra: Mapping[str, Blocks]) -> dict[str, BlockRanks]:
        """The ranks of each layer's blocks, by name; layers that stay dense are left out."""
        matrices, places = [], []
        for name, blocks in spectra.items():
            energy = sum(float(block.lost[0]) for row in blocks for block in row)
            for i, row in enumerate(blocks):
                for j, block in enumerate(row):
                    shape = len(block.left), block.right.shape[1]
                    matrices.append(choices(*shape, block.lost.numpy(), energy, self._multiple))
                    places.append((name, i, j))
        taken = allocate(matrices, self._budget)
        ranks: dict[str, list[list[int | None]]] = {
            name: [[None] * self._blocks for _ in blocks] for name, blocks in spectra.items()
        }
        for (name, i, j), matrix, choice in zip(places, matrices, taken, strict=True):
            ranks[name][i][j] = matrix.ranks[choice]
        before = sum(layer.weight.numel() for layer in layers.values())
        kept = sum(int(matrix.costs[choice]) for matrix, choice in zip(matrices, taken, strict=True))
        chosen: dict[str, BlockRanks] = {
            name: rows for name, rows in ranks.items() if any(rank is not None for row in rows for rank in row)
        }
        self._decided = {
            "parameters_before": before,
            "parameters_kept": kept,
            "share_kept": kept / before,
            "ranks": {name: rows[0][0] if self._blocks == 1 else rows for name, rows in ranks.items()},
            "loss_of_outputs": sum(float(m.losses[c]) for m, c in zip(matrices, taken, strict=True)) / len(layers),
        }
        return chosen


@torch.no_grad()
def factorise(
    model: BaseModel, ranks: Mapping[str, BlockRanks], spectra: Mapping[str, Blocks], known: Mapping[str, Moments]
) -> None:
    """Put factors in the place of the layers that `ranks` names.

    What the factors answer wrong on average goes into the bias: b' = b + (W − M) x̄.
    """
    for name, rows in ranks.items():
        old = find_module(model, name, nn.Linear)
        if len(rows) == 1:
            add_operation(model, {"kind": "low_rank", "module": name, "rank": rows[0][0]})
        else:
            add_operation(model, {"kind": "low_rank_blocks", "module": name, "ranks": [list(row) for row in rows]})
        made = model.get_submodule(name)
        product = _fill(made, old.weight, rows, spectra[name])
        if old.bias is not None:
            shift = (old.weight.double() - product.double()) @ known[name].mean
            _fill_bias(made, (old.bias.double() + shift).float())


def _fill(made: nn.Module, weight: Tensor, rows: BlockRanks, spectra: Blocks) -> Tensor:
    """Write the factors into `made`; returns the matrix that they stand for, [O, I]."""
    if isinstance(made, LowRankLinear):
        up, down = spectra[0][0].factors(made.down.out_features)
        made.up.weight.copy_(up)
        made.down.weight.copy_(down)
        return up @ down
    assert isinstance(made, BlockLowRankLinear), "of use_low_rank_blocks"
    downs = {int(j): torch.split(down.get_parameter("weight"), made.narrow[int(j)]) for j, down in made.downs.items()}
    product = []
    for i, band in enumerate(torch.split(weight, made.heights)):
        factors, line = [], []
        for j, block in enumerate(torch.split(band, made.widths, dim=1)):
            rank = rows[i][j]
            if rank is None:
                factors.append(block)
                line.append(block)
            else:
                up, down = spectra[i][j].factors(rank)
                downs[j][i].copy_(down)
                factors.append(up)
                line.append(up @ down)
        made.ups[i].get_parameter("weight").copy_(torch.cat(factors, dim=1))
        product.append(torch.cat(line, dim=1))
    return torch.cat(product)


def _fill_bias(made: nn.Module, bias: Tensor) -> None:
    if isinstance(made, LowRankLinear):
        made.up.bias.copy_(bias)
        return
    assert isinstance(made, BlockLowRankLinear), "of use_low_rank_blocks"
    for up, part in zip(made.ups, torch.split(bias, made.heights), strict=True):
        up.get_parameter("bias").copy_(part)


def _usable(found: Moments | None, layer: nn.Linear) -> Moments:
    """Moments as the layer can use them: without a bias to take up the mean, the mean has to be answered right too."""
    if found is None:
        return Moments.unknown(layer.in_features)
    if layer.bias is not None:
        return found
    return Moments(torch.zeros_like(found.mean), found.covariance + torch.outer(found.mean, found.mean))
