"""Whole blocks taken out: a model of fewer layers, faster by their share on every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.blocks import block_parameters, find_blocks, pair_blocks, told_smaller
from lnmt.models.structure import add_operation
from lnmt.optimization.compressions import WeightCompression

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop


class DropLayers(WeightCompression):
    """A model of some of its own blocks (Sajjad et al., On the Effect of Dropping Layers, 2023).

    keep: how many stay, spread from the first to the last; or their places, counted from 0.
    fine_tune: whether the model learns afterwards, with the trained model as its teacher.
    hidden: whether it also learns the teacher's states behind each block.
    """

    def __init__(self, keep: int | Sequence[int] = 3, fine_tune: bool = True, hidden: bool = False) -> None:
        self._keep = keep if isinstance(keep, int) else sorted(keep)
        self._fine_tune, self._hidden = fine_tune, hidden
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        before = block_parameters(model)
        kept = drop_blocks(model, self._keep, "drop_layers.keep")
        self._decided = {
            "kept": kept,
            **told_smaller(before, block_parameters(model)),
        }
        if not self._fine_tune:
            return model
        hidden = pair_blocks(model, load_model(shop.bundle)) if self._hidden else None
        return shop.fine_tune(model, teacher=True, hidden=hidden)

    def decided(self) -> dict[str, Any]:
        return self._decided


def drop_blocks(model: BaseModel, keep: int | Sequence[int], where: str) -> list[int]:
    """Take blocks out of `model`; returns the places of those that stay.

    Raises LnmtError where these are none, all, or not among the model's.
    """
    name, blocks = find_blocks(model)
    count = len(blocks)
    if isinstance(keep, int):
        in_range = 1 <= keep < count
        kept = spread(keep, count) if in_range else []
    else:
        kept = list(keep)
        in_range = 1 <= len(kept) < count and len(set(kept)) == len(kept) and set(kept) <= set(range(count))
    if not in_range:
        raise LnmtError(
            "these blocks cannot be the ones that stay",
            where=where,
            value=keep,
            allowed=f"a number from 1 to {count - 1}, or different places from 0 to {count - 1}, not all"
            if count > 1
            else "the model has one block alone",
            fix="give fewer blocks than the model has" if count > 1 else "use another compression",
        )
    add_operation(model, {"kind": "drop", "module": name, "keep": kept})
    return kept


def spread(few: int, count: int) -> list[int]:
    """`few` of the places 0…count − 1, evenly from the first to the last; the first alone where it is one."""
    return [place * (count - 1) // max(few - 1, 1) for place in range(few)]
