"""A model's changed architecture: what compressions did to it, as JSON in `model.config["structure"]`.

`type(model)(model.config)` builds the architecture as its family has it, and `restructure` does to it what the
list says, one operation after the other. So any family can be compressed, a plugin's too, and its constructor
need know nothing of it:

    {"kind": "linear", "module": NAME, "inputs": I, "outputs": O}   an nn.Linear of another size
    {"kind": "heads", "module": NAME, "heads": A}                   attention with fewer heads of the same size
    {"kind": "drop", "module": NAME, "keep": [0, 2, 4]}             an nn.ModuleList with these alone, in this order
    {"kind": "low_rank", "module": NAME, "rank": R}                 an nn.Linear as a `LowRankLinear`
    {"kind": "low_rank_blocks", "module": NAME, "ranks": [[R, …]]}  an nn.Linear as a `BlockLowRankLinear`
    {"kind": "vocabulary", "module": NAME, "rows": R, "fallback": F} an nn.Embedding as a `TrimmedEmbedding`

Modules are named as they stand when their operation's turn comes. What an operation makes anew is empty memory:
weights follow.

Legend: I, O = inputs and outputs of a linear layer, A = heads, D = width of a head, V = vocabulary, R = rows or rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.base import BaseModel
from lnmt.models.low_rank import use_low_rank, use_low_rank_blocks

STRUCTURE = "structure"  # in a model's configuration

Operation = Mapping[str, Any]
Kind = TypeVar("Kind", bound=nn.Module)


class TrimmedEmbedding(nn.Module):
    """An embedding that keeps R of the rows of a vocabulary of V; every other token has the row `fallback`."""

    index: Tensor  # [V] int64, the row of each token

    def __init__(self, embedding: nn.Embedding, rows: int, fallback: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        device = embedding.weight.device
        self.register_buffer("index", torch.full((self.num_embeddings,), fallback, dtype=torch.int64, device=device))
        self.rows = nn.Embedding(rows, self.embedding_dim, device="meta").to_empty(device=device)

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] int64 in 0…V → [..., H]."""
        found: Tensor = self.rows(self.index[tokens])
        return found


def add_operation(model: BaseModel, operation: Operation) -> None:
    """Change `model` and its configuration alike. Raises as `restructure` does, and then changes nothing."""
    restructure(model, [operation])
    model.config[STRUCTURE] = [*model.config.get(STRUCTURE, []), dict(operation)]


def restructure(model: nn.Module, operations: Iterable[Operation]) -> None:
    """Do to `model` what `operations` say; its configuration is left alone.

    Raises UnknownName for an operation of an unknown kind; LnmtError where the model has no such module, or an
    operation lacks something.
    """
    for operation in operations:
        kind = str(operation.get("kind"))
        if kind not in _KINDS:
            raise UnknownName("structure operation", kind, _KINDS, where="bundle.json: model.structure")
        try:
            _KINDS[kind](model, operation)
        except LnmtError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise LnmtError(
                f"a structure operation cannot be done: {type(error).__name__}: {error}",
                where="bundle.json: model.structure",
                value=dict(operation),
                allowed="what lnmt.models.structure lists, with all of its fields",
                fix="make the bundle again: lnmt optimize",
            ) from error


def find_module(model: nn.Module, name: str, kind: type[Kind]) -> Kind:
    """The module of `model` called `name`. Raises LnmtError where there is none, or it is of another kind."""
    found = dict(model.named_modules()).get(name)
    if not isinstance(found, kind):
        names = [known for known, module in model.named_modules() if isinstance(module, kind)]
        raise LnmtError(
            f"the model has no {kind.__name__} of this name",
            where=f"{type(model).__module__}.{type(model).__qualname__}",
            value=name if found is None else f"{name}, a {type(found).__name__}",
            allowed=", ".join(names) or "it has none at all",
            fix="the structure is another model's: make the bundle again: lnmt optimize",
        )
    return found


def _linear(model: nn.Module, operation: Operation) -> None:
    _resize(model, operation["module"], operation["inputs"], operation["outputs"])


def _heads(model: nn.Module, operation: Operation) -> None:
    """Of the attention of `lnmt.models.bert` and `lnmt.models.gpt2`: its layers and the one after it."""
    name, heads = operation["module"], int(operation["heads"])
    attention = find_module(model, name, nn.Module)
    layers = {child for child, _ in attention.named_children()}
    if {"query", "key", "value"} <= layers:
        after = find_module(model, f"{name.rpartition('.')[0]}.output.dense", nn.Linear)
        width = heads * (after.in_features // _count(attention, name))
        for part in ("query", "key", "value"):
            _resize(model, f"{name}.{part}", None, width)
        _resize(model, f"{name.rpartition('.')[0]}.output.dense", width, None)
    elif {"c_attn", "c_proj"} <= layers:
        width = heads * (find_module(model, f"{name}.c_proj", nn.Linear).in_features // _count(attention, name))
        _resize(model, f"{name}.c_attn", None, 3 * width)
        _resize(model, f"{name}.c_proj", width, None)
    else:
        raise _no_attention(name)
    setattr(attention, "heads", heads)  # noqa: B010 (nn.Module's own attributes are tensors and modules to mypy)


def _drop(model: nn.Module, operation: Operation) -> None:
    layers = list(find_module(model, operation["module"], nn.ModuleList))
    keep = [int(place) for place in operation["keep"]]
    if not keep or len(set(keep)) != len(keep) or not all(0 <= place < len(layers) for place in keep):
        raise ValueError(f"of {len(layers)} layers {keep} cannot be kept")
    _replace(model, operation["module"], nn.ModuleList(layers[place] for place in keep))


def _low_rank(model: nn.Module, operation: Operation) -> None:
    use_low_rank(model, {operation["module"]: int(operation["rank"])})


def _low_rank_blocks(model: nn.Module, operation: Operation) -> None:
    use_low_rank_blocks(model, {operation["module"]: operation["ranks"]})


def _vocabulary(model: nn.Module, operation: Operation) -> None:
    name, rows, fallback = operation["module"], int(operation["rows"]), int(operation["fallback"])
    embedding = find_module(model, name, nn.Embedding)
    if not 0 <= fallback < rows <= embedding.num_embeddings:
        raise ValueError(f"row {fallback} of {rows} cannot stand for the rest of {embedding.num_embeddings}")
    _replace(model, name, TrimmedEmbedding(embedding, rows, fallback))


_KINDS: dict[str, Callable[[nn.Module, Operation], None]] = {
    "linear": _linear,
    "heads": _heads,
    "drop": _drop,
    "low_rank": _low_rank,
    "low_rank_blocks": _low_rank_blocks,
    "vocabulary": _vocabulary,
}


def _resize(model: nn.Module, name: str, inputs: int | None, outputs: int | None) -> None:
    """A linear layer of another size; None: of the same."""
    old = find_module(model, name, nn.Linear)
    inputs = old.in_features if inputs is None else int(inputs)
    outputs = old.out_features if outputs is None else int(outputs)
    if min(inputs, outputs) < 1:
        raise ValueError(f"a layer of {inputs} inputs and {outputs} outputs")
    with torch.device("meta"):  # drawing numbers first would move torch's generator
        layer = nn.Linear(inputs, outputs, bias=old.bias is not None)
    _replace(model, name, layer.to_empty(device=old.weight.device))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    model.get_submodule(parent).register_module(child, module.train(model.training))


def _count(attention: nn.Module, name: str) -> int:
    heads: object = getattr(attention, "heads", None)
    if not isinstance(heads, int):
        raise _no_attention(name)
    return heads


def _no_attention(name: str) -> LnmtError:
    return LnmtError(
        "this module is no attention whose heads can be taken out",
        where=name,
        allowed="the attention of BERT or GPT-2 in lnmt.models: an attribute `heads`, and query, key, value or c_attn",
        fix="use another compression for this architecture",
    )
