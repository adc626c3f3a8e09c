from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models import build_model
from lnmt.models.layers import linear_layers
from lnmt.models.low_rank import (
    BlockLowRankLinear,
    BlockRanks,
    LowRankLinear,
    parts,
    use_low_rank,
    use_low_rank_blocks,
)
from lnmt.params import Plugin
from tests.models.model_kit import inputs_of
from tests.tiny_bundle import tiny_setup

INPUTS = inputs_of([2, 40, 41, 3], [2, 50, 3])
QUERY = "encoder.encoder.layer.1.attention.self.query"


def weight_of(layer: nn.Module, inputs: int) -> Tensor:
    """The matrix [O, I] that a layer multiplies with, by its answers to the unit vectors."""
    found: Tensor = (layer(torch.eye(inputs)) - layer(torch.zeros(1, inputs))).T
    return found


@given(st.integers(1, 40), st.integers(1, 6))
def test_parts_are_whole_and_alike(size: int, count: int) -> None:
    found = parts(size, count)
    assert (sum(found), len(found)) == (size, count)
    assert max(found) - min(found) <= 1
    assert found == sorted(found, reverse=True)


def test_a_layer_is_the_product_of_its_factors() -> None:
    layer = LowRankLinear(5, 7, 2, bias=True)
    weight = layer.up.weight @ layer.down.weight
    states = torch.randn(2, 3, 5)
    torch.testing.assert_close(layer(states), states @ weight.T + layer.up.bias)
    assert sum(one.numel() for one in layer.parameters()) == 2 * (5 + 7) + 7
    assert LowRankLinear(5, 7, 2, bias=False).up.bias is None


@st.composite
def block_ranks(draw: st.DrawFn) -> tuple[int, int, list[list[int | None]]]:
    count = draw(st.integers(2, 3))
    inputs, outputs = draw(st.integers(count, 9)), draw(st.integers(count, 9))
    rank = st.one_of(st.none(), st.integers(1, 3))
    return (
        inputs,
        outputs,
        draw(st.lists(st.lists(rank, min_size=count, max_size=count), min_size=count, max_size=count)),
    )


@given(block_ranks(), st.booleans())
def test_each_block_is_dense_or_of_its_rank(sizes: tuple[int, int, list[list[int | None]]], bias: bool) -> None:
    inputs, outputs, ranks = sizes
    layer = BlockLowRankLinear(inputs, outputs, ranks, bias=bias)
    assert layer(torch.randn(2, 3, inputs)).shape == (2, 3, outputs)
    numbers = outputs * bias
    with torch.no_grad():
        for i, band in enumerate(torch.split(weight_of(layer, inputs), parts(outputs, len(ranks)))):
            for j, block in enumerate(torch.split(band, parts(inputs, len(ranks)), dim=1)):
                rank = ranks[i][j]
                numbers += block.numel() if rank is None else rank * sum(block.shape)
                found = int(torch.linalg.matrix_rank(block, atol=1e-5))
                assert found == min(block.shape) if rank is None else found <= rank
    assert sum(one.numel() for one in layer.parameters()) == numbers


def test_linear_layers_leaves_heads_and_closed_modules_out() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)
            self.wide = nn.Linear(8, 8)
            self.head = nn.Linear(8, 2)

    assert list(linear_layers(Model())) == ["wide", "head"]
    assert list(linear_layers(Model(), ["head."])) == ["wide"]
    assert list(linear_layers(Model(), ["head.weight", "head.bias"])) == ["wide"]


@pytest.mark.parametrize("ranks", [3, [[3, None], [2, 1]]])
def test_a_model_runs_with_them_packed_or_not(encoder: Path, ranks: int | BlockRanks) -> None:
    model = build_model(Plugin(name="encoder_classifier", dropout=0.0), tiny_setup(encoder, options={"dropout": 0.0}))
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            vars(module)["dropout"] = 0.0
    before = torch.get_rng_state()
    if isinstance(ranks, int):
        use_low_rank(model, {QUERY: ranks})
    else:
        use_low_rank_blocks(model, {QUERY: ranks})
    assert torch.equal(torch.get_rng_state(), before)
    layer = model.get_submodule(QUERY)
    with torch.no_grad():
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        packed = model.train()(INPUTS).logits
        plain = model.eval()(INPUTS).logits
    torch.testing.assert_close(packed, plain)
    assert all(
        sum(name.startswith(prefix) for layer in model.layers() for prefix in layer) == 1
        for name, _ in model.named_parameters()
    )


@pytest.mark.parametrize("name", ["encoder.encoder.layer.7.output.dense", "encoder.embeddings.word_embeddings"])
def test_only_linear_layers_can_be_factorised(encoder: Path, name: str) -> None:
    model = build_model(Plugin(name="encoder_classifier"), tiny_setup(encoder))
    with pytest.raises(LnmtError, match="no such linear layer") as caught:
        use_low_rank(model, {name: 2})
    assert caught.value.value == name
    assert QUERY in str(caught.value.allowed)
