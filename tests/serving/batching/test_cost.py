from __future__ import annotations

import numpy as np
import pytest

from lnmt.serving.batching.cost import BatchCost


def test_the_coefficients_are_found() -> None:
    cost = BatchCost()
    random = np.random.default_rng(0)
    for _ in range(300):
        rows = int(random.integers(1, 33))
        tokens = rows * 8 * int(random.integers(1, 9))
        cost.learn(tokens, rows, 2e-3 + 3e-5 * tokens + 5e-5 * rows)
    assert cost.fixed_s == pytest.approx(2e-3, rel=0.02)
    assert cost.by_token_s == pytest.approx(3e-5, rel=0.02)
    assert cost.seconds(256, 32) == pytest.approx(2e-3 + 3e-5 * 256 + 5e-5 * 32, rel=0.01)
    assert cost.batches == 300


def test_what_batches_do_not_show_is_never_below_zero() -> None:
    cost = BatchCost()
    for tokens in (512, 256, 128, 64, 32, 16, 8) * 20:
        cost.learn(tokens, 1, 1e-2 / tokens)  # the longer the faster: no such engine
    assert cost.fixed_s >= 0
    assert cost.by_token_s >= 0
    assert cost.seconds(0, 0) == cost.fixed_s


def test_an_engine_that_becomes_slower_is_believed_soon() -> None:
    cost = BatchCost()
    for _ in range(500):
        cost.learn(64, 4, 1e-3)
    for _ in range(150):
        cost.learn(64, 4, 1e-1)
    assert cost.seconds(64, 4) > 5e-2
