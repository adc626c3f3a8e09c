"""Metrics of language models: how expected a text is.

Legend: N = rows, B = rows of a batch, T = tokens, V = vocabulary, M = metrics, `...` = any leading dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.training.metrics.base import TaskMetrics, Values, divide

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_LOSS = 700.0  # exp of more is infinite


class LanguageMetrics(TaskMetrics):
    """loss, perplexity, bits_per_byte, token_accuracy; a row is (Σ −log p in nats, predicted tokens, bytes, right).

    `loss` is nats a token and `perplexity` its exponential; both depend on how a tokenizer cuts, `bits_per_byte`
    does not. `token_accuracy`: the share of tokens that were the likeliest one.
    """

    names = ("loss", "perplexity", "bits_per_byte", "token_accuracy")
    width = size = 4

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        return np.asarray(rows, dtype=np.float64)

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        nats, tokens, count_bytes, right = np.moveaxis(sums, -1, 0)
        loss = divide(nats, tokens)
        perplexity = np.exp(np.minimum(loss, LARGEST_LOSS))
        return np.stack([loss, perplexity, divide(nats / np.log(2), count_bytes), divide(right, tokens)], axis=-1)


def score_tokens(logits: Tensor, tokens: Tensor, mask: Tensor) -> NDArray[Any]:
    """Σ −log p in nats, predicted tokens and right ones of each row: [B, 3] float64.

    `logits` [B, T, V] fp32; `tokens` [B, T] int64; `mask` [B, T], 1 for a token and 0 for padding, which stands on
    the right. Each token is predicted from those before it, so that the first of a row is not.
    """
    from torch.nn import functional

    found = np.zeros((len(tokens), 3))
    for row in range(len(tokens)):  # one at a time: the scores of a row are as large as its logits
        count = int(mask[row].sum()) - 1
        if count > 0:
            scores, wanted = logits[row, :count], tokens[row, 1 : count + 1]
            each = functional.cross_entropy(scores, wanted, reduction="none").double()
            found[row] = float(each.sum()), count, int((scores.argmax(dim=1) == wanted).sum())
    return found
