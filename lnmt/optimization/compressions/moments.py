"""What the linear layers of a model get to see on calibration texts, and what is kept of it.

Legend: B = rows, T = tokens, N = tokens of all rows, I = inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lnmt.models.base import BaseModel
from lnmt.types import Batch


@dataclass(frozen=True)
class Moments:
    """What is known of a layer's inputs."""

    mean: Tensor  # [I], fp64
    covariance: Tensor  # [I, I], fp64

    @classmethod
    def unknown(cls, inputs: int) -> Moments:
        """Inputs of which each is as likely as any other: what is best for them is the plain truncated SVD."""
        return cls(torch.zeros(inputs, dtype=torch.float64), torch.eye(inputs, dtype=torch.float64))

    def part(self, start: int, stop: int) -> Moments:
        """Of the inputs from `start` to `stop`."""
        return Moments(self.mean[start:stop], self.covariance[start:stop, start:stop])


@torch.no_grad()
def look(
    model: BaseModel, layers: Mapping[str, nn.Linear], batches: Iterable[Batch], see: Callable[[str, Tensor], None]
) -> None:
    """Run `batches` through the model in eval mode; `see(name, inputs [N, I])` gets what each layer is given.

    Padding is left out where a layer's inputs stand by token.
    """
    mask = torch.empty(0)
    was_training = model.training

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            states = inputs[0]
            by_token = states.shape[:2] == mask.shape and states.dim() == 3
            see(name, states[mask] if by_token else states.flatten(0, -2))

        return before

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        model.eval()
        for batch in batches:
            mask = torch.from_numpy(batch.attention_mask).bool()
            model(
                {
                    "input_ids": torch.from_numpy(batch.input_ids),
                    "attention_mask": torch.from_numpy(batch.attention_mask),
                }
            )
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def moments(model: BaseModel, layers: Mapping[str, nn.Linear], batches: Iterable[Batch]) -> dict[str, Moments]:
    """The mean and covariance of each layer's inputs over `batches`.

    Layers that were never called have none.
    """
    counts = dict.fromkeys(layers, 0)
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}

    def see(name: str, inputs: Tensor) -> None:
        exact = inputs.double()
        first = name not in sums
        counts[name] += len(exact)
        sums[name] = exact.sum(0) if first else sums[name] + exact.sum(0)
        squares[name] = exact.T @ exact if first else squares[name] + exact.T @ exact

    look(model, layers, batches, see)
    found = {}
    for name, total in sums.items():
        mean = total / counts[name]
        found[name] = Moments(mean, squares[name] / counts[name] - torch.outer(mean, mean))
    return found
