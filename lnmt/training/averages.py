"""Exponential moving averages of the weights: Polyak & Juditsky, 1992; Tarvainen & Valpola, Mean Teachers, 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverages:
    """Averages of the parameters that learn, fp32. Its decay grows from 0 to `decay` over the first steps.

    (1 + n) / (10 + n) at step n, so that the random start is soon forgotten, as TensorFlow's averages do.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._averages = {name: weight.detach().to(torch.float32, copy=True) for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """After a step, with the weights as they now are."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        names = list(self._averages)
        torch._foreach_lerp_(
            [self._averages[name] for name in names], [weights[name].detach().float() for name in names], 1 - decay
        )

    @contextmanager
    def in_place_of(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """The averages stand in `weights` while it is entered."""
        with torch.no_grad():
            kept = {name: weights[name].detach().clone() for name in self._averages}
            for name, average in self._averages.items():
                weights[name].copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in kept.items():
                    weights[name].copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"steps": self._steps, "averages": dict(self._averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self._steps = int(state["steps"])
        for name, average in self._averages.items():
            average.copy_(state["averages"][name])


class AveragedModel:
    """A model's state with the averages in the place of its own weights: what is saved in the end."""

    def __init__(self, model: nn.Module, averages: WeightAverages) -> None:
        self._model = model
        self._averages = averages

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {**self._model.state_dict(), **self._averages.state_dict()["averages"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing: the model and the averages have states of their own."""
