"""The smallest weights become 0. The matrices keep their size: it is told as zeros, and as nothing more.

Legend: I, O = inputs and outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.models.layers import linear_layers
from lnmt.optimization.compressions import WeightCompression
from lnmt.training.callbacks import Callback
from lnmt.training.callbacks.callback import Run, StepResult

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop

# Dense kernels read and multiply every number; on the demo's model a pass with half of them 0 took as long.
GAIN = "none on dense engines: a product with 0 costs as much as any other; the weights' file compresses better"


class PruneWeights(WeightCompression):
    """Magnitude pruning of each linear layer, heads left out: Han et al., Learning both Weights and Connections, 2015.

    share: of a matrix's numbers that become 0, the smallest ones.
    fine_tune: whether the others learn afterwards, with the trained model as their teacher; zeros stay zeros.
    """

    def __init__(self, share: float = 0.5, fine_tune: bool = True) -> None:
        if not 0 < share < 1:
            raise LnmtError(
                "the share of weights to prune is out of range",
                where="prune_weights.share",
                value=share,
                allowed="0 < share < 1",
                fix="0.5 sets half of them to 0",
            )
        self._share, self._fine_tune = share, fine_tune
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        layers = linear_layers(model, model.heads())
        if not layers:
            raise LnmtError(
                "the model has no linear layers besides its head to prune",
                where=f"{type(model).__module__}.{type(model).__qualname__}",
                allowed="torch.nn.Linear layers that its forward calls",
                fix="take prune_weights out of params.yaml: optimize.compressions",
            )
        masks = {f"{name}.weight": largest(layer.weight, self._share) for name, layer in layers.items()}
        _apply(model, masks)
        if self._fine_tune:
            model = shop.fine_tune(model, teacher=True, callbacks={"keep-zeros": KeepZeros(masks)})
            _apply(model, masks)  # averaged weights (train.ema_decay) are taken before the callback
        pruned = sum(mask.numel() for mask in masks.values())
        zeros = sum(int((model.get_parameter(name) == 0).sum()) for name in masks)
        self._decided = {"parameters": pruned, "zeros": zeros, "share_of_zeros": zeros / pruned, "gain": GAIN}
        return model

    def decided(self) -> dict[str, Any]:
        return self._decided


class KeepZeros(Callback):
    """Holds weights at 0 while the others learn."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self._masks = masks

    def after_step(self, run: Run, step: StepResult) -> None:
        _apply(run.execution.model, self._masks)


def largest(weight: Tensor, share: float) -> Tensor:
    """[O, I] bool: False for that share of the weights that is smallest, exactly so many; of equals the first."""
    order = torch.argsort(weight.detach().abs().flatten(), stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(share * weight.numel())]] = False
    return mask.view(weight.shape)


@torch.no_grad()
def _apply(model: BaseModel, masks: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        parameter.mul_(mask.to(parameter.device))
