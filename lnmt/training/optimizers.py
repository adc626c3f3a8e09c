"""Optimisers by name, and the base class for plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.params import Plugin
from lnmt.plugins.table import Table
from lnmt.text.processors import make

Groups = list[dict[str, Any]]  # torch's parameter groups


class BaseOptimizer(torch.optim.Optimizer):
    """Subclass it, set `self.lr` in the constructor, define `step`, and register it:
    `@OPTIMIZERS.register("name")`.

    The schedule moves `lr`. State that must survive a crash belongs into `self.state[parameter]`.
    """

    def __init__(self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]]) -> None:
        super().__init__(parameters, {"lr": 0.0})

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
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


def build_optimizer(model: nn.Module, plugin: Plugin) -> torch.optim.Optimizer:
    """The optimiser of the parameters that learn. Biases and norms are not decayed."""
    where = "params.yaml: train.optimizer"
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: Groups = [
        {"params": [parameter for parameter in learning if parameter.dim() >= 2]},
        {"params": [parameter for parameter in learning if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = make(partial(OPTIMIZERS.get(plugin.name, where=where), groups), plugin, where=where)
    for group in optimizer.param_groups:
        if not isinstance(group.get("lr"), float | int) or group["lr"] <= 0:
            raise LnmtError(
                "the learning rate is not above 0",
                where=where,
                value=group.get("lr"),
                allowed="lr > 0",
                fix="give the optimizer an lr, such as 2.0e-5",
            )
        group["base_lr"] = float(group["lr"])
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Move every group to `factor` × its own rate; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
