"""A smaller student that learns the trained model's answers and its states inside.

Legend: H = hidden width, I = inner width, A = heads, D = H / A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.blocks import block_parameters, find_units, keep_units, pair_blocks, told_smaller
from lnmt.models.structure import STRUCTURE
from lnmt.optimization.compressions import WeightCompression
from lnmt.optimization.compressions.drop_layers import drop_blocks
from lnmt.optimization.compressions.prune_heads import importance

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop

# What a config.json calls the hidden width, the heads and the inner width.
SIZES = (("hidden_size", "num_attention_heads", "intermediate_size"), ("n_embd", "n_head", "n_inner"))


class Distil(WeightCompression):
    """A student of fewer or narrower blocks, which starts from the teacher's weights.

    Hinton et al., 2015; for the states TinyBERT, Jiao et al., 2020: `lnmt.training.teacher`.

    layers: blocks of the student, copied from the teacher's, spread from the first to the last; null: all of them.
    width: H of the student, a multiple of D, with as much narrower blocks; null: the teacher's. It starts from those
    states, heads and columns that matter most.
    hidden: whether the states behind each block are learnt too, not the answers alone.
    """

    def __init__(self, layers: int | None = 3, width: int | None = None, hidden: bool = True) -> None:
        if layers is None and width is None:
            raise LnmtError(
                "the student would be as large as its teacher",
                where="distil",
                value="layers: null, width: null",
                allowed="fewer layers, a smaller width, or both",
                fix="distil: {layers: 3} takes three of the blocks",
            )
        self._layers, self._width, self._hidden = layers, width, hidden
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        before = block_parameters(model)
        if self._width is not None:
            model = narrow(model, self._width, shop)
        kept = None if self._layers is None else drop_blocks(model, self._layers, "distil.layers")
        self._decided = {
            "kept": kept,
            "width": self._width,
            **told_smaller(before, block_parameters(model)),
        }
        hidden = pair_blocks(model, load_model(shop.bundle)) if self._hidden else None
        return shop.fine_tune(model, teacher=True, hidden=hidden)

    def decided(self) -> dict[str, Any]:
        return self._decided


@torch.no_grad()
def narrow(model: BaseModel, width: int, shop: Workshop) -> BaseModel:
    """A model of the same family and of hidden width `width`, with those of `model`'s weights that matter most.

    Its heads are as wide as before, so there are fewer; the inner width goes with H. Changes `model`. Raises
    LnmtError where the family has no such sizes, `width` does not fit, or `model` was restructured before.
    """
    settings = model.config.get("config")
    names = next((names for names in SIZES if isinstance(settings, dict) and {*names[:2]} <= settings.keys()), None)
    if names is None or STRUCTURE in model.config:
        raise LnmtError(
            "this model cannot be made narrower",
            where=f"{type(model).__module__}.{type(model).__qualname__}",
            value="its structure was changed before" if names else "its configuration tells no hidden width and heads",
            allowed="an unchanged BERT or GPT-2 of lnmt.models",
            fix="distil first in the recipe" if names else "leave distil.width out",
        )
    assert isinstance(settings, dict), "it has the names"
    units = find_units(model)
    hidden, heads = int(settings[names[0]]), int(settings[names[1]])
    size = hidden // heads
    if not 0 < width < hidden or width % size:
        raise LnmtError(
            "the student cannot have this width",
            where="distil.width",
            value=width,
            allowed=f"a multiple of {size}, the width of a head, below {hidden}",
            fix=f"{max(heads // 2, 1) * size} is about half",
        )
    inner = next(one.count for one in units if one.attention is None)
    fewer = {names[0]: width, names[1]: width // size, names[2]: max(inner * width // hidden, 1)}
    config = {**model.config, "config": {**settings, **fewer}}
    with torch.enable_grad():
        scores = importance(model, units, shop.labelled, shop.progress)
    for one, score in zip(units, scores, strict=True):
        count = fewer[names[1] if one.attention is not None else names[2]]
        keep_units(model, one, torch.topk(score, count).indices.sort().values)
    with torch.random.fork_rng(devices=[]):
        student = type(model)(config)
    _fill(student, model, hidden, width)
    return student.eval()


def _fill(student: BaseModel, model: BaseModel, hidden: int, width: int) -> None:
    """Copy the weights of `model`, of its hidden states those that the most weights hang on."""
    theirs, ours = model.state_dict(), student.state_dict()
    cut = {
        name: [axis for axis in range(old.dim()) if old.shape[axis] != ours[name].shape[axis]]
        for name, old in theirs.items()
    }
    scores = torch.zeros(hidden, dtype=torch.float64)
    for name, axes in cut.items():
        for axis in axes:
            if theirs[name].dim() == 2:
                scores += theirs[name].double().square().sum(dim=1 - axis)
    keep = torch.topk(scores, width).indices.sort().values

    def taken(old: Tensor, axes: list[int]) -> Tensor:
        for axis in axes:
            old = old.index_select(axis, keep)
        return old

    student.load_state_dict({name: taken(old, cut[name]) for name, old in theirs.items()})
