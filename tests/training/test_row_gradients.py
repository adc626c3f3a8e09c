from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lnmt.training import row_gradients
from lnmt.training.row_gradients import RowGradients


@pytest.fixture(autouse=True)
def _small_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_gradients, "LARGE", 12)


class Tagger(nn.Module):
    """Scores of tokens; `tied`: by the same weights that embed them."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(6, 2)
        self.head = nn.Linear(2, 6, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.words(ids)).square().sum()  # type: ignore[no-any-return]


def both(ids: Tensor, tied: bool = False) -> tuple[Tagger, Tagger, RowGradients]:
    """A model with gradients as torch makes them, and one after two passes with gradients by row."""
    plain, model = Tagger(tied), Tagger(tied)
    rows = RowGradients(model)
    for _ in range(2):
        torch.autograd.backward(plain(ids))
        with rows.gathered():
            loss = model(ids)
        torch.autograd.backward(loss)
    return plain, model, rows


def test_they_are_the_dense_ones_and_then_dropped() -> None:
    plain, model, rows = both(torch.tensor([[1, 4, 1]]))
    (values,) = rows.values()
    assert values.shape == (2, 2), "each touched row once"
    assert plain.words.weight.grad is not None
    torch.testing.assert_close(values, plain.words.weight.grad[[1, 4]])
    with rows.spread():
        dense = model.words.weight.grad
        assert dense is not None
        torch.testing.assert_close(dense, plain.words.weight.grad)
    assert model.words.weight.grad is None
    assert not dense.any(), "the kept tensor is clean for the next step"


def test_changed_values_are_changed_gradients() -> None:
    plain, model, rows = both(torch.tensor([[0, 5]]))
    torch._foreach_mul_(rows.values(), 0.5)
    with rows.spread():
        assert model.words.weight.grad is not None
        assert plain.words.weight.grad is not None
        torch.testing.assert_close(model.words.weight.grad, plain.words.weight.grad / 2)


def test_the_model_is_left_as_it_was() -> None:
    _, model, rows = both(torch.tensor([[0, 5]]))
    assert not model.words.sparse
    with pytest.raises(KeyError), rows.gathered():
        assert model.words.sparse
        raise KeyError
    assert not model.words.sparse


def test_tied_frozen_and_small_embeddings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([[1, 4]])
    plain, model, rows = both(ids, tied=True)
    assert rows.values() == []
    assert torch.equal(torch.as_tensor(model.words.weight.grad), torch.as_tensor(plain.words.weight.grad))
    frozen = Tagger()
    frozen.words.requires_grad_(False)
    assert RowGradients(frozen).values() == []
    monkeypatch.setattr(row_gradients, "LARGE", 13)
    _, _, rows = both(ids)
    assert rows.values() == []
