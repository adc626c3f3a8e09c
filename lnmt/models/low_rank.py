"""Linear layers as products of narrow ones.

Legend: I, O = inputs and outputs of a linear layer, R = rank, K = blocks a side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models.layers import linear_layers

BlockRanks = Sequence[Sequence[int | None]]  # [K, K], by outputs and inputs; None: that block is dense


class LowRankLinear(nn.Module):
    """The weight [O, I] as `up` [O, R] times `down` [R, I]: R · (O + I) numbers."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., I] → [..., O]."""
        found: Tensor = self.up(self.down(states))
        return found


class BlockLowRankLinear(nn.Module):
    """The weight [O, I] in K × K blocks, each dense or of a rank of its own: both factors are blocked.

    Of the inputs' part j one product gives what all low-rank blocks of column j need; of the outputs' part i one
    product takes the narrow states of its low-rank blocks, and the inputs themselves of its dense ones. It is the
    block low-rank form of Amestoy et al., Improving Multifrontal Methods by Means of Block Low-Rank
    Representations, 2015; with dense blocks on the diagonal alone it is one level of Hackbusch's hierarchical
    matrices (1999).
    """

    def __init__(self, inputs: int, outputs: int, ranks: BlockRanks, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.ranks = [list(row) for row in ranks]
        self.widths, self.heights = parts(inputs, len(ranks)), parts(outputs, len(ranks))
        self.narrow = [[row[column] or 0 for row in ranks] for column in range(len(ranks))]  # [K, K], by inputs
        self.downs = nn.ModuleDict(
            {
                str(j): nn.Linear(self.widths[j], sum(sizes), bias=False)
                for j, sizes in enumerate(self.narrow)
                if any(sizes)
            }
        )
        self.ups = nn.ModuleList(
            nn.Linear(sum(self.widths[j] if rank is None else rank for j, rank in enumerate(row)), height, bias=bias)
            for row, height in zip(ranks, self.heights, strict=True)
        )

    def forward(self, states: Tensor) -> Tensor:
        """[..., I] → [..., O]."""
        columns = torch.split(states, self.widths, dim=-1)
        lows = {
            int(j): torch.split(down(columns[int(j)]), self.narrow[int(j)], dim=-1) for j, down in self.downs.items()
        }
        rows = []
        for i, up in enumerate(self.ups):
            taken = [columns[j] if rank is None else lows[j][i] for j, rank in enumerate(self.ranks[i])]
            rows.append(up(torch.cat(taken, dim=-1)))
        return torch.cat(rows, dim=-1)


def parts(size: int, count: int) -> list[int]:
    """`size` in `count` parts that differ by one at most, the larger ones first."""
    each, more = divmod(size, count)
    return [each + (place < more) for place in range(count)]


def use_low_rank(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Put a `LowRankLinear` of empty memory in the place of each linear layer that `ranks` names.

    Raises LnmtError where there is no such layer.
    """
    for name, rank in ranks.items():
        _swap(model, name, partial(LowRankLinear, rank=rank))


def use_low_rank_blocks(model: nn.Module, ranks: Mapping[str, BlockRanks]) -> None:
    """Put a `BlockLowRankLinear` of empty memory in the place of each linear layer that `ranks` names.

    Raises LnmtError where there is no such layer.
    """
    for name, rows in ranks.items():
        _swap(model, name, partial(BlockLowRankLinear, ranks=rows))


def _swap(model: nn.Module, name: str, make: Callable[..., nn.Module]) -> None:
    found = dict(model.named_modules()).get(name)
    if not isinstance(found, nn.Linear):
        raise LnmtError(
            "the model has no such linear layer to factorise",
            where=type(model).__name__,
            value=name,
            allowed=", ".join(linear_layers(model)) or "it has no linear layers",
            fix="make the bundle again: lnmt optimize",
        )
    with torch.device("meta"):  # drawing numbers first would move torch's generator
        layer = make(found.in_features, found.out_features, bias=found.bias is not None)
    parent, _, child = name.rpartition(".")
    module = layer.to_empty(device=found.weight.device).train(found.training)
    model.get_submodule(parent).register_module(child, module)
