"""A model's blocks, and what of them can be taken out: whole ones, heads of attention, columns of the inner layer.

Legend: I = inner width, A = heads, D = width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel
from lnmt.models.structure import add_operation, find_module

# Names within a block: what makes the inner states, and what takes them.
INNER = (("intermediate.dense", "output.dense"), ("mlp.c_fc", "mlp.c_proj"))
# The attention, what makes its states, how many kinds of states each of these makes, and what takes them.
_SELF = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))
ATTENTION = (
    ("attention.self", _SELF, 1, "attention.output.dense"),
    ("attn", ("attn.c_attn",), 3, "attn.c_proj"),
)


@dataclass(frozen=True)
class Units:
    """What stands side by side in a block and is taken out one by one: its heads, or the columns of its inner layer."""

    attention: str | None  # the module, where these are heads
    producers: tuple[str, ...]  # linear layers whose outputs are the units' states
    kinds: int  # of states that a producer gives one after the other: 3 where query, key and value are one layer
    consumer: str  # the linear layer that takes them
    count: int  # A or I
    width: int  # states of a unit: D, or 1

    def parameters(self, model: nn.Module) -> int:
        """How many parameters one unit has."""
        made = [find_module(model, name, nn.Linear) for name in self.producers]
        taken = find_module(model, self.consumer, nn.Linear)
        each = sum(self.kinds * (layer.in_features + (layer.bias is not None)) for layer in made)
        return self.width * (each + taken.out_features)


def find_blocks(model: BaseModel) -> tuple[str, nn.ModuleList]:
    """The list of alike blocks that holds most of the model's parameters, and its name.

    Raises LnmtError where the model has none.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(block) for block in module}) == 1 and _size(module) > 0
    }
    if not lists:
        raise LnmtError(
            "this architecture has no blocks that could be told apart",
            where=f"{type(model).__module__}.{type(model).__qualname__}",
            allowed="a torch.nn.ModuleList of blocks of one class, such as encoder.layer",
            fix="take this compression out of params.yaml: optimize.compressions, or keep the blocks in a ModuleList",
        )
    name = max(lists, key=lambda name: _size(lists[name]))
    return name, lists[name]


def block_parameters(model: BaseModel) -> int:
    """The parameters of the blocks: embeddings and head are not counted."""
    return _size(find_blocks(model)[1])


def find_units(model: BaseModel) -> list[Units]:
    """The heads and inner columns of each block, in the blocks' order.

    Raises LnmtError where the blocks are not those of BERT or GPT-2 in `lnmt.models`.
    """
    name, blocks = find_blocks(model)
    found = []
    for place, block in enumerate(blocks):
        prefix, modules = f"{name}.{place}.", dict(block.named_modules())
        for attention, producers, kinds, consumer in ATTENTION:
            heads = getattr(modules.get(attention), "heads", None)
            if isinstance(heads, int) and _are_linear(modules, *producers, consumer):
                width = find_module(block, consumer, nn.Linear).in_features // heads
                made = tuple(prefix + producer for producer in producers)
                found.append(Units(prefix + attention, made, kinds, prefix + consumer, heads, width))
        for producer, consumer in INNER:
            if _are_linear(modules, producer, consumer):
                inner = find_module(block, consumer, nn.Linear).in_features
                found.append(Units(None, (prefix + producer,), 1, prefix + consumer, inner, 1))
    if len(found) != 2 * len(blocks):
        raise LnmtError(
            "heads and inner columns cannot be taken out of blocks like these",
            where=f"{type(model).__module__}.{type(model).__qualname__}",
            value=f"{name}: {type(blocks[0]).__name__}",
            allowed="blocks of BERT and GPT-2 as lnmt.models has them, their linear layers not factorised",
            fix="prune before low_rank, or use drop_layers or low_rank for this architecture",
        )
    return found


@torch.no_grad()
def keep_units(model: BaseModel, units: Units, keep: Tensor) -> None:
    """Take all of `units` out of the model but those at the places `keep`; its matrices become smaller."""
    states = (keep[:, None] * units.width + torch.arange(units.width)).flatten()
    kinds = torch.arange(units.kinds)[:, None] * units.count * units.width
    rows = (kinds + states).flatten()
    kept = {}
    for name in units.producers:
        layer = find_module(model, name, nn.Linear)
        kept[name] = layer.weight[rows], None if layer.bias is None else layer.bias[rows]
    layer = find_module(model, units.consumer, nn.Linear)
    kept[units.consumer] = layer.weight[:, states], layer.bias
    if units.attention is not None:
        add_operation(model, {"kind": "heads", "module": units.attention, "heads": len(keep)})
    else:
        for name, (weight, _) in kept.items():
            outputs, inputs = weight.shape
            add_operation(model, {"kind": "linear", "module": name, "inputs": inputs, "outputs": outputs})
    for name, (weight, bias) in kept.items():
        layer = find_module(model, name, nn.Linear)
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)


def pair_blocks(model: BaseModel, teacher: BaseModel) -> dict[str, str]:
    """The name of each block of `model` → that of the teacher's which it stands for: its own, or evenly spread."""
    (name, blocks), (other, others) = find_blocks(model), find_blocks(teacher)
    places = [-(-(place + 1) * len(others) // len(blocks)) - 1 for place in range(len(blocks))]
    return {f"{name}.{place}": f"{other}.{found}" for place, found in enumerate(places)}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _are_linear(modules: Mapping[str, nn.Module], *names: str) -> bool:
    return all(type(modules.get(name)) is nn.Linear for name in names)


def told_smaller(before: int, after: int) -> dict[str, float]:
    """What is told of a model whose blocks had `before` parameters and have `after`, as JSON values."""
    return {"parameters_before": before, "parameters_after": after, "share_removed": 1 - after / before}
