"""Heads and inner columns taken out, where they matter least; the matrices become smaller, on every engine.

Legend: B = rows, T = tokens, A = heads, I = inner width, D = width of a unit's states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.blocks import Units, block_parameters, find_units, keep_units, pair_blocks, told_smaller
from lnmt.models.calls import call_model
from lnmt.models.structure import find_module
from lnmt.optimization.compressions import WeightCompression
from lnmt.optimization.compressions.moments import moments
from lnmt.optimization.compressions.recover import recover

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel, TrainingBatch
    from lnmt.optimization.workshop import Workshop
    from lnmt.progress import Progress


@dataclass(frozen=True)
class _Piece:
    """What is taken out at once: a head, or `multiple` inner columns."""

    units: int  # place among the model's units
    places: tuple[int, ...]  # within them
    importance: float  # a parameter
    parameters: int


class PruneHeads(WeightCompression):
    """Structured pruning: those heads and columns go whose absence changes the loss least, a parameter.

    A block keeps a head and 2 × `multiple` columns at least. What is lost is made good in the layers behind by least
    squares, and then learnt back.

    parameters: share of the blocks' parameters that goes; embeddings are not counted.
    multiple: columns go by so many, since processors multiply in tiles.
    recover: whether the layers behind are fitted anew to what they gave before.
    fine_tune: whether the model learns afterwards, with the trained model as its teacher.
    hidden: whether it also learns the teacher's states behind each block.
    """

    def __init__(
        self,
        parameters: float = 0.6,
        multiple: int = 32,
        recover: bool = True,
        fine_tune: bool = True,
        hidden: bool = False,
    ) -> None:
        if not 0 < parameters < 1:
            raise LnmtError(
                "the share of parameters to take out is out of range",
                where="prune_heads.parameters",
                value=parameters,
                allowed="0 < parameters < 1",
                fix="0.6 takes six of ten",
            )
        if multiple < 1:
            raise LnmtError(
                "multiple is below 1", where="prune_heads.multiple", value=multiple, allowed="an integer ≥ 1"
            )
        self._share, self._multiple = parameters, multiple
        self._recover, self._fine_tune, self._hidden = recover, fine_tune, hidden
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        units, before = find_units(model), block_parameters(model)
        scores = importance(model, units, shop.labelled, shop.progress)
        keep = self._choose(model, units, scores, before)
        if self._recover:
            layers = {one.consumer: find_module(model, one.consumer, nn.Linear) for one in units}
            seen = moments(model, layers, shop.calibration)
            for one, kept in zip(units, keep, strict=True):
                states = (kept[:, None] * one.width + torch.arange(one.width)).flatten()
                if len(kept) < one.count:
                    recover(layers[one.consumer], states, seen[one.consumer])
        for one, kept in zip(units, keep, strict=True):
            if len(kept) < one.count:
                keep_units(model, one, kept)
        self._decided = {
            **told_smaller(before, block_parameters(model)),
            "heads": [len(kept) for one, kept in zip(units, keep, strict=True) if one.attention is not None],
            "columns": [len(kept) for one, kept in zip(units, keep, strict=True) if one.attention is None],
        }
        if not self._fine_tune:
            return model
        hidden = pair_blocks(model, load_model(shop.bundle)) if self._hidden else None
        return shop.fine_tune(model, teacher=True, hidden=hidden)

    def decided(self) -> dict[str, Any]:
        return self._decided

    def _choose(self, model: BaseModel, units: Sequence[Units], scores: Sequence[Tensor], before: int) -> list[Tensor]:
        """The places that are kept, by units: the least important pieces go until the share is reached."""
        pieces = sorted(self._pieces(model, units, scores), key=lambda piece: piece.importance)
        wanted, possible = self._share * before, sum(piece.parameters for piece in pieces)
        if possible < wanted:
            raise LnmtError(
                "nothing would be left of the blocks",
                where="prune_heads.parameters",
                value=self._share,
                allowed=f"at most {possible / before:.2f}: a block keeps a head and {2 * self._multiple} columns",
                fix="take out less, or lower prune_heads.multiple",
            )
        gone: list[set[int]] = [set() for _ in units]
        removed = 0
        for piece in pieces:
            if removed >= wanted:
                break
            gone[piece.units].update(piece.places)
            removed += piece.parameters
        return [
            torch.tensor([place for place in range(one.count) if place not in out])
            for one, out in zip(units, gone, strict=True)
        ]

    def _pieces(self, model: BaseModel, units: Sequence[Units], scores: Sequence[Tensor]) -> list[_Piece]:
        """All that may go: heads but the best, columns but the 2 × `multiple` best, the worst ones together."""
        found = []
        for place, (one, score) in enumerate(zip(units, scores, strict=True)):
            together, least = (1, 1) if one.attention is not None else (self._multiple, 2 * self._multiple)
            each, order = one.parameters(model), torch.argsort(score, stable=True).tolist()
            # What stays is a multiple, whatever there is now.
            first = (one.count - least) % together
            starts = range(first, one.count - least, together) if one.count > least else range(0)
            groups = [order[start : start + together] for start in starts]
            if groups and first:
                groups[0] = order[: first + together]
            for group in groups:
                size = each * len(group)
                found.append(_Piece(place, tuple(group), float(score[group].sum()) / size, size))
        return found


def importance(
    model: BaseModel, units: Sequence[Units], batches: Sequence[TrainingBatch], progress: Progress
) -> list[Tensor]:
    """How much the loss of a row changes without each unit, to first order: [A] or [I] by `units`, fp64.

    |Σ_T s · ∂loss/∂s| of its states s, mean over the rows: Molchanov et al., Importance Estimation for Neural
    Network Pruning, 2019; for heads Michel et al., Are Sixteen Heads Really Better than One?, 2019.
    """
    totals = [torch.zeros(one.count, dtype=torch.float64) for one in units]
    states: dict[str, Tensor] = {}
    was_training = model.training
    model.eval()
    with ExitStack() as stack, progress.bar("importance", sum(map(len, batches)), "rows") as bar:
        stack.callback(model.train, was_training)
        stack.callback(model.zero_grad, set_to_none=True)
        for one in units:
            layer = find_module(model, one.consumer, nn.Linear)
            stack.callback(layer.register_forward_pre_hook(_keep(one.consumer, states)).remove)
        for batch in batches:
            loss = model.loss(call_model(model, batch.inputs, model.task).logits, batch.labels)
            inputs = [states[one.consumer] for one in units]
            for total, one, state, slope in zip(totals, units, inputs, torch.autograd.grad(loss, inputs), strict=True):
                by_row = (state * slope).detach().sum(dim=1).view(-1, one.count, one.width).sum(dim=2)
                # The loss is a mean over the batch: times its rows it is each row's own.
                total += by_row.double().abs().sum(dim=0) * len(batch)
            bar.advance(len(batch))
    rows = sum(map(len, batches))
    return [total / rows for total in totals]


def _keep(name: str, states: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        states[name] = inputs[0]

    return keep
