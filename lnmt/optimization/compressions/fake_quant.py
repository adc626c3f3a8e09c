"""Linear layers that compute as if in 8 bits, while they learn: on the grids that `static_int8` uses later.

Weights are symmetric, −127…127 times a scale for each output; inputs have 256 levels, 0 exactly one of them: Jacob et
al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.
Gradients pass the rounding as if it were not there, and stop outside of the levels: Bengio et al., Estimating or
Propagating Gradients Through Stochastic Neurons, 2013.

Legend: I, O = inputs and outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnmt.models.layers import linear_layers
from lnmt.training.callbacks import Callback
from lnmt.training.callbacks.callback import Run

LEVELS = 255  # steps between the least and the greatest input
LARGEST = 127  # of a weight's integers; −128 is left out so that they are symmetric


@dataclass(frozen=True)
class Rounding:
    """The grid of a layer's inputs."""

    scale: float  # between two levels
    zero: int  # the level that is 0, in 0…255
    divisor: Tensor | None  # [I], of the inputs, and factor of the weight: SmoothQuant, arXiv 2211.10438


class FakeQuantLinear(nn.Linear):
    """A linear layer that rounds its weight and its inputs. A plain one becomes it, and goes back, by its class alone.

    So its parameters, and their names, are the same ones throughout; and code that reads the weights of plain layers
    sees that this is none.
    """

    rounding: Rounding

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Linear's own name)
        states, weight, divisor = input.float(), self.weight, self.rounding.divisor
        if divisor is not None:
            divisor = divisor.to(states.device)
            states, weight = states / divisor, weight * divisor
        return functional.linear(round_inputs(states, self.rounding), round_weight(weight), self.bias)


def round_inputs(states: Tensor, rounding: Rounding) -> Tensor:
    """States in fp32 on the nearest of 256 levels; those outside become the last one."""
    return torch.fake_quantize_per_tensor_affine(states, rounding.scale, rounding.zero, 0, LEVELS)


def round_weight(weight: Tensor) -> Tensor:
    """A weight [O, I] on the grid of each of its rows: integers of −127…127 times the row's scale."""
    greatest = weight.detach().abs().amax(dim=1).float()
    scales = torch.where(greatest > 0, greatest / LARGEST, 1.0)
    zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight.float(), scales, zeros, 0, -LARGEST, LARGEST)


class FakeQuantise(Callback):
    """The linear layers of a run's model round while it runs, its evaluations too; after it they are plain again.

    `roundings`: of the layers that do, by name. They belong to the run's checkpoints.
    """

    def __init__(self, roundings: Mapping[str, Rounding]) -> None:
        self._roundings = dict(roundings)

    def start(self, run: Run) -> None:
        attach(run.execution.model, self._roundings)

    def finish(self, run: Run) -> None:
        detach(run.execution.model)

    def state_dict(self) -> dict[str, Any]:
        return {name: asdict(rounding) for name, rounding in self._roundings.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._roundings = {name: Rounding(**rounding) for name, rounding in state.items()}


def attach(model: nn.Module, roundings: Mapping[str, Rounding]) -> None:
    """Let the plain linear layers that `roundings` names round."""
    for name, layer in linear_layers(model).items():
        if name in roundings:
            layer.__class__ = FakeQuantLinear
            vars(layer)["rounding"] = roundings[name]


def detach(model: nn.Module) -> None:
    """Make the layers of `attach` plain again."""
    for layer in model.modules():
        if isinstance(layer, FakeQuantLinear):
            del vars(layer)["rounding"]
            layer.__class__ = nn.Linear  # type: ignore[assignment]
