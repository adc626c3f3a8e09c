from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lnmt.optimization.compressions.moments import Moments
from lnmt.optimization.compressions.recover import recover


def seen(states: Tensor) -> Moments:
    exact = states.double()
    return Moments(exact.mean(0), torch.cov(exact.T, correction=0))


def layer_of(inputs: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, 3)


def test_inputs_that_others_give_away_are_not_missed() -> None:
    layer = layer_of(6)
    free = torch.randn(200, 4)
    states = torch.cat([free, free @ torch.randn(4, 2) + 1.5], dim=1)  # the last two follow from the others
    wanted = layer(states)
    recover(layer, torch.arange(4), seen(states))
    assert torch.equal(layer.weight[:, 4:], torch.zeros(3, 2))
    torch.testing.assert_close(layer(states), wanted, rtol=1e-2, atol=1e-2)


def test_what_is_found_is_the_least_squares_solution() -> None:
    layer, states, keep = layer_of(8), torch.randn(500, 8) @ torch.randn(8, 8), torch.tensor([0, 2, 3, 7])
    wanted = layer(states).detach().double()
    inputs = torch.cat([states[:, keep], torch.ones(500, 1)], dim=1).double()
    best = torch.linalg.lstsq(inputs, wanted).solution
    recover(layer, keep, seen(states))
    found = torch.cat([layer.weight[:, keep], layer.bias[:, None]], dim=1).detach().T.double()
    assert float((inputs @ found - wanted).square().mean()) == pytest.approx(
        float((inputs @ best - wanted).square().mean()), rel=1e-3
    )


def test_inputs_that_never_vary_go_into_the_bias() -> None:
    layer, states = layer_of(3), torch.tensor([[0.0, 5.0, 1.0], [0.0, 5.0, -1.0]])
    wanted = layer(states).detach()
    recover(layer, torch.tensor([2]), seen(states))
    torch.testing.assert_close(layer(states), wanted, rtol=1e-3, atol=1e-3)
