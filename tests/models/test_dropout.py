from __future__ import annotations

import pytest
import torch

from lnmt.models.dropout import drop, drop_add, keep_mask


@pytest.mark.parametrize(("share", "kept"), [(0.1, 230 / 256), (0.5, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_a_share_is_dropped_and_the_mean_stays(share: float, kept: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mask = keep_mask((1000, 333), share, torch.float32)
    assert sorted(set(mask.flatten().tolist())) == pytest.approx([0.0, 1 / kept] if 0 < kept < 1 else [kept])
    assert float((mask > 0).float().mean()) == pytest.approx(kept, abs=0.003)
    eighths = [float((mask.flatten()[start::8] > 0).float().mean()) for start in range(8)]
    assert eighths == pytest.approx([kept] * 8, abs=0.01), "each byte of a draw is as random as the others"


def test_the_same_numbers_are_dropped_and_added_to() -> None:
    states, residual = torch.randn(7, 5), torch.randn(7, 5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        dropped = drop(states, 0.4)
        torch.manual_seed(3)
        added = drop_add(states, residual, 0.4)
    torch.testing.assert_close(added, dropped + residual)
    assert torch.equal(drop(states, 0.0), states)
    assert torch.equal(drop_add(states, residual, 0.0), states + residual)


def test_gradients_go_where_states_were_kept() -> None:
    states = torch.ones(64, 8, requires_grad=True)
    kept = drop_add(states, torch.zeros(64, 8), 0.5)
    torch.autograd.backward(kept.sum())
    assert states.grad is not None
    assert torch.equal(states.grad, kept.detach())
