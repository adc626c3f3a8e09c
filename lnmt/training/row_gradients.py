"""Gradients of large embeddings as the few rows that a batch touches.

A dense gradient of 30,522 × 384 is 47 MB of zeros, fetched from the system, filled, and read again for its
norm in every step: a fifth of the time of a small encoder's step on a CPU. Optimisers get the same numbers as
before, in one dense tensor that is kept.

Legend: V = vocabulary, R = rows touched, H = width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LARGE = 1_000_000  # elements of an embedding, below which a dense gradient costs nothing


class RowGradients:
    """The large embeddings of `model` on a CPU that are used as embeddings alone (not tied to a head)."""

    def __init__(self, model: nn.Module) -> None:
        uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        self._embeddings = [
            module
            for module in model.modules()
            if type(module) is nn.Embedding
            and module.weight.device.type == "cpu"
            and module.weight.numel() >= LARGE
            and module.weight.requires_grad
            and uses[id(module.weight)] == 1
        ]
        self._dense: dict[int, Tensor] = {}  # [V, H] by the weight's id, 0 between two steps

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Forward passes in it give their embeddings gradients by row, at whatever time they are computed."""
        before = [(module, module.sparse) for module in self._embeddings]
        try:
            for module, _ in before:
                module.sparse = True
            yield
        finally:
            for module, sparse in before:
                module.sparse = sparse

    def values(self) -> list[Tensor]:
        """The gradients of the touched rows [R, H], each row once; changing them changes the gradients."""
        found = []
        for module in self._embeddings:
            gradient = module.weight.grad
            if gradient is not None and gradient.is_sparse:
                module.weight.grad = gradient.coalesce()
                found.append(module.weight.grad.values())
        return found

    @contextmanager
    def spread(self) -> Iterator[None]:
        """The gradients are dense while it is entered, and dropped afterwards."""
        touched: list[tuple[Tensor, Tensor]] = []
        for module in self._embeddings:
            weight, gradient = module.weight, module.weight.grad
            if gradient is not None and gradient.is_sparse:
                rows = gradient.coalesce().indices()[0]
                if id(weight) not in self._dense:
                    self._dense[id(weight)] = torch.zeros_like(weight)
                weight.grad = self._dense[id(weight)].index_copy_(0, rows, gradient.coalesce().values())
                touched.append((weight, rows))
        try:
            yield
        finally:
            for weight, rows in touched:
                self._dense[id(weight)].index_fill_(0, rows, 0.0)
                weight.grad = None
