"""What several families share.

Legend: B = rows, T = tokens, H = hidden width.
"""

from __future__ import annotations

from torch import Tensor

from lnmt.errors import LnmtError


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean [B, H] of the states [B, T, H] of each row's tokens, padding left out."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)  # [B, T, 1]
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


def check_share(value: object) -> float:
    """A model's option `dropout`. Raises LnmtError where it is no share below 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise LnmtError(
            "dropout is no share",
            where="params.yaml: train.model.dropout",
            value=value,
            allowed="0 ≤ dropout < 1",
            fix="0.1 is usual",
        )
    return float(value)
