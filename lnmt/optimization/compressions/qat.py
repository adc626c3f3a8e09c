"""Quantisation-aware training: weights that lose less when 8-bit products follow.

Legend: N = calibration tokens, S = sampled ones, I, O = inputs and outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.layers import linear_layers
from lnmt.optimization.compressions import WeightCompression
from lnmt.optimization.compressions.fake_quant import FakeQuantise, Rounding
from lnmt.optimization.compressions.int8_observe import SAMPLE, Observed
from lnmt.optimization.compressions.int8_scales import GroupScales, group_scales
from lnmt.optimization.compressions.moments import look
from lnmt.types import Batch

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop


class QuantisationAware(WeightCompression):
    """Fine-tunes with linear layers that compute as if in 8 bits, see `fake_quant`; the weights stay floats.

    It pays before `static_int8`, whose scales it uses: `[{name: qat}, {name: static_int8}]`. The levels of the inputs
    come from what each layer saw on calibration texts, and stay fixed; those of the weights follow the weights.
    TensorRT takes symmetric levels of inputs alone, which `static_int8` writes for it: near those that were learnt.

    keep_float: globs of layers that do not round, such as `*.output.dense`.
    """

    def __init__(self, keep_float: Sequence[str] = ()) -> None:
        self._keep_float = tuple(keep_float)
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        layers = linear_layers(model)
        for glob in self._keep_float:
            if not any(fnmatchcase(name, glob) for name in layers):
                raise UnknownName("linear layer", glob, layers, where="qat.keep_float")
        rounded = {
            name: layer
            for name, layer in layers.items()
            if not any(fnmatchcase(name, glob) for glob in self._keep_float)
        }
        scales = find_scales(model, rounded, shop.calibration)
        if not scales:
            raise LnmtError(
                "the model has no linear layers that could compute in 8 bits",
                where=f"{type(model).__module__}.{type(model).__qualname__}",
                allowed="torch.nn.Linear layers that its forward calls",
                fix="take qat out of params.yaml: optimize.compressions, or name fewer layers in keep_float",
            )
        self._decided = {"smoothing": {name: found.alpha for name, found in scales.items()}}
        roundings = {name: rounding_of(found) for name, found in scales.items()}
        return shop.fine_tune(model, callbacks={"fake-quantise": FakeQuantise(roundings)})

    def decided(self) -> dict[str, Any]:
        return self._decided


def find_scales(model: BaseModel, layers: Mapping[str, nn.Linear], batches: Sequence[Batch]) -> dict[str, GroupScales]:
    """The scales that `static_int8` would give each layer; layers that are never called have none."""
    tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    bounds: dict[str, tuple[Tensor, Tensor]] = {}  # [I] each
    samples: dict[str, list[Tensor]] = {name: [] for name in layers}

    def see(name: str, inputs: Tensor) -> None:
        low, high = inputs.amin(dim=0), inputs.amax(dim=0)
        before = bounds.get(name, (low, high))
        bounds[name] = torch.minimum(low, before[0]), torch.maximum(high, before[1])
        count = min(len(inputs), -(-SAMPLE * len(inputs) // tokens))
        samples[name].append(inputs[torch.linspace(0, len(inputs) - 1, count).long()])

    look(model, layers, batches, see)
    found = {}
    for name, (low, high) in bounds.items():
        seen = Observed(low.numpy(), high.numpy(), torch.cat(samples[name]).numpy())
        weight = np.ascontiguousarray(layers[name].weight.detach().numpy().T)  # [I, O]
        found[name] = group_scales(seen, [weight], "minmax", symmetric=False)
    return found


def rounding_of(scales: GroupScales) -> Rounding:
    """The grid of the inputs for layers that learn."""
    divisor = None if scales.divisor is None else torch.from_numpy(scales.divisor)
    return Rounding(scales.activation.scale, scales.activation.zero, divisor)
