"""Lion: the sign of a momentum, one state a weight where Adam has two.

Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lnmt.optimization import BaseOptimizer
from lnmt.plugins import register_optimizer


@register_optimizer("my-optimizer")
class MyOptimizer(BaseOptimizer):
    """The paper advises a learning rate 3 to 10 times below AdamW's, and as many times its weight decay."""

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters)
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step at each group's own rate: the schedule and layer-wise decay have set it."""
        for group in self.param_groups:
            rate, decay = group["lr"], group.get("weight_decay", self.weight_decay)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                # What stands in `state` is in every checkpoint.
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                direction = (self.beta1 * momentum + (1 - self.beta1) * parameter.grad).sign_()
                parameter.mul_(1 - rate * decay).add_(direction, alpha=-rate)
                momentum.lerp_(parameter.grad, 1 - self.beta2)
