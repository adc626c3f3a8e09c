"""Attention over short texts in training on a CPU.

There torch's fused kernel takes 2 to 10 times as long in bf16, and with dropout falls back to one that is as slow;
elsewhere it is the better one: `functional.scaled_dot_product_attention`.

Legend: B = rows, T = tokens of a row with padding, N = tokens, H = hidden width, A = heads, D = H / A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lnmt.models.dropout import keep_mask

LONGEST = 512  # T; above it the probabilities [B, A, T, T] that are kept take too much memory
VECTOR = 32  # T; below it softmax's backward in bf16 goes number by number and takes up to ten times as long
ALIGNED = 16  # T is a multiple of it: else softmax takes up to four times as long
FULL = 128  # N is a multiple of it where padding can fill it up: oneDNN keeps 10 MB and more for each new shape


@dataclass(frozen=True)
class Packing:
    """The tokens of a padded batch, one after the other, and where they stand in it."""

    rows: int  # B
    tokens: int  # T
    kept: Tensor  # [N], the place of each token in the batch as it came
    places: Tensor  # [N] in 0…B·T, its place in the one that attention sees, which may be wider
    sources: Tensor  # [B·T] in 0…N, of each place's token; any where padding is
    bias: Tensor  # [B, 1, 1, T], fp32: 0 for a token, very low for padding, finite


def pack(attention_mask: Tensor) -> Packing:
    """The packing of a batch by its mask [B, tokens]. A little padding is taken along to fill up FULL."""
    rows, tokens = attention_mask.shape
    wide = -(-tokens // ALIGNED) * ALIGNED
    flat = attention_mask.flatten()
    order = torch.argsort(flat, descending=True, stable=True)
    kept = order[: -(-max(int(flat.sum()), 1) // FULL) * FULL]
    places = kept if wide == tokens else kept // tokens * wide + kept % tokens
    sources = torch.zeros(rows * wide, dtype=torch.int64).index_copy_(0, places, torch.arange(len(kept)))
    masked = torch.nn.functional.pad(attention_mask == 0, (0, wide - tokens), value=True)
    bias = torch.zeros(masked.shape).masked_fill_(masked, torch.finfo(torch.float32).min)
    return Packing(rows, wide, kept, places, sources, bias.view(rows, 1, 1, wide))


def attend(projected: Tensor, packed: Packing, heads: int, dropout: float) -> Tensor:
    """Softmax attention (Vaswani et al., 2017): queries, keys and values beside each other [N, 3H] → [N, H].

    `dropout` is the share of the probabilities that is dropped.
    """
    attended: Tensor = _Attend.apply(projected, packed, heads, dropout)  # type: ignore[no-untyped-call]
    return attended


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, packed: Packing, heads: int, dropout: float) -> Tensor:
        rows, tokens, width = packed.rows, packed.tokens, projected.shape[1] // 3
        with torch.autocast("cpu", enabled=False):
            padded = projected.index_select(0, packed.sources).view(rows, tokens, 3, heads, -1)
            split = padded.permute(2, 0, 3, 1, 4).reshape(3, rows * heads, tokens, -1)
            query, key, value = split.unbind(0)  # [B·A, T, D] each
            scores = torch.bmm(query, key.transpose(1, 2)).view(rows, heads, tokens, tokens)
            scores = torch.add(packed.bias, scores, alpha=(width // heads) ** -0.5)  # fp32, or what is finer
            shares = torch.softmax(scores, dim=-1).to(projected.dtype).view(rows * heads, tokens, tokens)
            kept = keep_mask(shares.shape, dropout, shares.dtype) if dropout > 0 else None
            context = torch.bmm(shares if kept is None else shares * kept, value)
        ctx.save_for_backward(query, key, value, shares, kept)
        ctx.packed, ctx.heads = packed, heads
        context = context.view(rows, heads, tokens, -1).transpose(1, 2).reshape(rows * tokens, width)
        return context.index_select(0, packed.places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares, kept = ctx.saved_tensors
        packed, heads, width = ctx.packed, ctx.heads, grad.shape[1]
        rows, tokens = packed.rows, packed.tokens
        # 0 where padding is, so that it gives its keys and values nothing
        padded = grad.new_zeros(rows * tokens, width).index_copy_(0, packed.places, grad)
        padded = padded.view(rows, tokens, heads, -1).transpose(1, 2).reshape(query.shape)
        grads = torch.empty((3, *query.shape), dtype=grad.dtype)
        torch.bmm((shares if kept is None else shares * kept).transpose(1, 2), padded, out=grads[2])
        to_shares = torch.bmm(padded, value.transpose(1, 2))
        if kept is not None:
            to_shares.mul_(kept)
        exact = torch.promote_types(shares.dtype, torch.float32) if tokens < VECTOR else shares.dtype
        to_scores = torch.ops.aten._softmax_backward_data(to_shares.to(exact), shares.to(exact), -1, exact)
        to_scores = to_scores.to(shares.dtype).mul_((width // heads) ** -0.5)
        torch.bmm(to_scores, key, out=grads[0])
        torch.bmm(to_scores.transpose(1, 2), query, out=grads[1])
        grads = grads.view(3, rows, heads, tokens, -1).permute(1, 3, 0, 2, 4).reshape(rows * tokens, 3 * width)
        return grads.index_select(0, packed.places), None, None, None
