"""Optimisers by name, and the base class for plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.base import BaseModel
from lnmt.models.layers import layers_of
from lnmt.params import TrainParams
from lnmt.plugins.table import Table
from lnmt.text.processors import make

Groups = list[dict[str, Any]]  # torch's parameter groups


class BaseOptimizer(torch.optim.Optimizer):
    """Subclass it, set `self.lr` in the constructor, define `step`, and register it:
    `@OPTIMIZERS.register("name")`.

    The constructor gets the parameters that learn, as a list. Afterwards they stand in `self.param_groups`, each
    group with a rate of its own (`group["lr"]`), that the schedule moves; `group["weight_decay"]` is 0 where
    weights are not to be decayed. State that must survive a crash belongs into `self.state[parameter]`.
    """

    def __init__(self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]]) -> None:
        super().__init__(parameters, {"lr": 0.0})

    @property
    def lr(self) -> float:
        """The learning rate of the next step; with layer-wise decay the head's, which is the highest."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value


def adamw(parameters: Groups, lr: float, weight_decay: float, beta1: float = 0.9, beta2: float = 0.999) -> Any:
    """Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019; torch's fused kernel."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(beta1, beta2), fused=True)


def sgd(parameters: Groups, lr: float, weight_decay: float = 0.0, momentum: float = 0.9) -> Any:
    """Stochastic gradient descent with Nesterov momentum; torch's fused kernel."""
    return torch.optim.SGD(
        parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=momentum > 0, fused=True
    )


OPTIMIZERS: Table[Callable[..., torch.optim.Optimizer]] = Table(
    "optimizer", {"adamw": "lnmt.training.optimizers:adamw", "sgd": "lnmt.training.optimizers:sgd"}
)


def build_optimizer(model: nn.Module, options: TrainParams) -> torch.optim.Optimizer:
    """The optimiser of the parameters that learn, after those that match `options.freeze` no longer do.

    Biases and norms are not decayed. With `options.layer_decay` below 1 the head learns at the full rate and each
    layer below it at that share of the next one's (Howard & Ruder, ULMFiT, 2018; Clark et al., ELECTRA, 2020); the
    head's groups come first. Raises UnknownName for a glob that matches no parameter, LnmtError where nothing is
    left to learn or the rate is not above 0.
    """
    where = "params.yaml: train.optimizer"
    freeze(model, options.freeze)
    plugin = options.optimizer
    groups = _groups(model, options.layer_decay)
    factory = OPTIMIZERS.get(plugin.name, where=where)
    alone = isinstance(factory, type) and issubclass(factory, BaseOptimizer)
    parameters = [parameter for group in groups for parameter in group["params"]] if alone else groups
    optimizer = make(partial(factory, parameters), plugin, where=where)
    if alone:  # it need know nothing of groups: they are made of the one that it made of the list
        common = optimizer.param_groups[0]
        optimizer.param_groups[:] = [{**common, **group} for group in groups]
    for group in optimizer.param_groups:
        if not isinstance(group.get("lr"), float | int) or group["lr"] <= 0:
            raise LnmtError(
                "the learning rate is not above 0",
                where=where,
                value=group.get("lr"),
                allowed="lr > 0",
                fix="give the optimizer an lr, such as 2.0e-5",
            )
        group["base_lr"] = group["lr"] = float(group["lr"]) * group.pop("lr_share")
    return optimizer


def freeze(model: nn.Module, globs: Sequence[str]) -> None:
    """Let the parameters whose names match one of `globs` (`encoder.embeddings.*`) learn no more.

    Raises UnknownName for a glob that matches none.
    """
    names = [name for name, _ in model.named_parameters()]
    for glob in globs:
        found = [name for name in names if fnmatchcase(name, glob)]
        if not found:
            known = {f"{prefix.rstrip('.')}.*" for layer in _layers(model) for prefix in layer}
            raise UnknownName("parameter", glob, known, where="params.yaml: train.freeze")
        for name in found:
            model.get_parameter(name).requires_grad_(False)


def _groups(model: nn.Module, layer_decay: float) -> Groups:
    """Parameter groups from the head down, each with its share of the rate; those that are decayed first."""
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not learning:
        raise LnmtError(
            "no parameter is left to learn",
            where="params.yaml: train.freeze",
            allowed="globs that leave at least the head",
            fix="take a glob out of train.freeze",
        )
    layers = _layers(model) if layer_decay < 1 else [[""]]
    groups: Groups = []
    for depth, prefixes in enumerate(reversed(layers)):
        inside = [parameter for name, parameter in learning.items() if name.startswith(tuple(prefixes))]
        share = layer_decay**depth
        groups.append({"params": [one for one in inside if one.dim() >= 2], "lr_share": share})
        groups.append({"params": [one for one in inside if one.dim() < 2], "lr_share": share, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _layers(model: nn.Module) -> list[list[str]]:
    """Prefixes of parameter names by layer, from the input to the head."""
    return model.layers() if isinstance(model, BaseModel) else layers_of([name for name, _ in model.named_parameters()])


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Move every group to `factor` × its own rate; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
