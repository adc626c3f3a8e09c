"""What a layer loses with some of its inputs, made good by the others: least squares, without training.

Kwon et al., A Fast Post-Training Pruning Framework for Transformers, 2022, solve it so for their masks.

Legend: I, O = inputs and outputs of a linear layer, K = inputs that are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lnmt.optimization.compressions.moments import Moments

RIDGE = 1e-4  # added to the inputs' covariance, in shares of their mean variance


@torch.no_grad()
def recover(layer: nn.Linear, keep: Tensor, seen: Moments) -> None:
    """Change `layer` so that its inputs `keep` [K] alone give most nearly what all of them gave.

    W' = W C[:, K] C[K, K]⁻¹ and b' = b + W m − W' m[K], for the inputs' mean m and covariance C. The columns of
    the other inputs become 0.
    """
    weight, covariance = layer.weight.double(), seen.covariance.to(layer.weight.device)
    mean = seen.mean.to(layer.weight.device)
    inner = covariance[keep][:, keep]
    inner.diagonal().add_(max(RIDGE * float(covariance.diagonal().mean()), 1e-12))
    found = torch.linalg.solve(inner, (weight @ covariance[:, keep]).T).T  # [O, K]
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() + weight @ mean - found @ mean[keep])
    layer.weight.zero_()
    layer.weight[:, keep] = found.to(layer.weight.dtype)
