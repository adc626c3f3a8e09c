"""Attention over short texts in training on a CPU.

There torch's fused kernel takes 2 to 10 times as long in bf16, and with dropout falls back to one that is as slow;
elsewhere it is the better one: `functional.scaled_dot_product_attention`.

Legend: B = rows, T = tokens, H = hidden width, A = heads, D = H / A.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lnmt.models.dropout import keep_mask

LONGEST = 512  # T; above it the probabilities [B, A, T, T] that are kept take too much memory


def attend(projected: Tensor, bias: Tensor, heads: int, dropout: float) -> Tensor:
    """Softmax attention (Vaswani et al., 2017): queries, keys and values beside each other [B, T, 3H] → [B, T, H].

    `bias` [B, 1, 1, T] is added to the scores; `dropout` is the share of the probabilities that is dropped.
    """
    attended: Tensor = _Attend.apply(projected, bias, heads, dropout)  # type: ignore[no-untyped-call]
    return attended


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, bias: Tensor, heads: int, dropout: float) -> Tensor:
        rows, tokens, width = projected.shape[0], projected.shape[1], projected.shape[2] // 3
        with torch.autocast(projected.device.type, enabled=False):
            split = projected.view(rows, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            query, key, value = split.reshape(3, rows * heads, tokens, width // heads).unbind(0)  # [B·A, T, D] each
            scores = torch.bmm(query, key.transpose(1, 2)).view(rows, heads, tokens, tokens)
            exact = torch.promote_types(scores.dtype, torch.float32)
            scores = scores.to(exact).mul_((width // heads) ** -0.5).add_(bias)
            shares = torch.softmax(scores, dim=-1).to(projected.dtype).view(rows * heads, tokens, tokens)
            kept = keep_mask(shares.shape, dropout, shares.dtype) if dropout > 0 else None
            context = torch.bmm(shares if kept is None else shares * kept, value)
        ctx.save_for_backward(query, key, value, shares, kept)
        ctx.heads = heads
        return context.view(rows, heads, tokens, -1).transpose(1, 2).reshape(rows, tokens, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares, kept = ctx.saved_tensors
        (rows, tokens, width), heads = grad.shape, ctx.heads
        grad = grad.view(rows, tokens, heads, width // heads).transpose(1, 2).reshape(query.shape)
        grads = torch.empty((3, *query.shape), dtype=grad.dtype)
        torch.bmm((shares if kept is None else shares * kept).transpose(1, 2), grad, out=grads[2])
        to_shares = torch.bmm(grad, value.transpose(1, 2))
        if kept is not None:
            to_shares.mul_(kept)
        to_scores = torch.ops.aten._softmax_backward_data(to_shares, shares, -1, shares.dtype)
        to_scores.mul_((width // heads) ** -0.5)
        torch.bmm(to_scores, key, out=grads[0])
        torch.bmm(to_scores.transpose(1, 2), query, out=grads[1])
        grads = grads.view(3, rows, heads, tokens, width // heads).permute(1, 3, 0, 2, 4)
        return grads.reshape(rows, tokens, 3 * width), None, None, None
