"""Low-rank additions to linear layers: few numbers learn, and nothing is left of them once merged.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
Legend: I, O = inputs and outputs of a linear layer, R = rank.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnmt.errors import UnknownName
from lnmt.models.base import BaseModel
from lnmt.models.layers import linear_layers
from lnmt.params import LoraParams


class LoraLinear(nn.Linear):
    """A linear layer with its own parameters, frozen, and the addition scale · B A beside them.

    It keeps the names `weight` and `bias`, so that what knows a model by its parameters' names still does.
    """

    def __init__(self, base: nn.Linear, params: LoraParams) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_a = nn.Parameter(torch.empty(params.rank, base.in_features))  # [R, I]
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, params.rank))  # [O, R]: it starts as nothing
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.scale = params.alpha / params.rank
        self.drop = nn.Dropout(params.dropout)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Linear's own name)
        low = functional.linear(self.drop(input), self.lora_a)
        return super().forward(input) + functional.linear(low, self.lora_b) * self.scale

    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        with torch.no_grad():
            addition = self.scale * (self.lora_b.double() @ self.lora_a.double())
            self.weight.copy_(self.weight.double() + addition)
        plain.weight, plain.bias = self.weight, self.bias
        return plain.train(self.training)


def add_lora(model: BaseModel, params: LoraParams, *, seed: int = 0) -> None:
    """Give the linear layers whose names match `params.targets` low-rank additions, drawn from `seed`.

    They and the head (`model.heads()`) learn, all else is frozen; what the model computes is the same as before.
    Raises UnknownName for a target that matches no linear layer.
    """
    heads = tuple(model.heads())
    layers = linear_layers(model, without=heads)
    for target in params.targets:
        if not any(fnmatchcase(name, target) for name in layers):
            known = {f"*.{name.rpartition('.')[2]}" for name in layers}
            raise UnknownName("linear layer", target, known, where="params.yaml: train.lora.targets")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(heads))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, base in layers.items():
            if any(fnmatchcase(name, target) for target in params.targets):
                _replace(model, name, LoraLinear(base, params).to(base.weight.device).train(base.training))


def merge_lora(model: BaseModel) -> None:
    """Add the low-rank additions to the weights beside them; the model is a plain one again, and learns as a whole."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear):
            _replace(model, name, layer.merged())
    model.requires_grad_(True)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    model.get_submodule(parent).register_module(child, layer)
