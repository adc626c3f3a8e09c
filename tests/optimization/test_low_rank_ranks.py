from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.errors import LnmtError
from lnmt.optimization.compressions.low_rank_ranks import Choices, allocate, choices

FALLING = np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.0])


def made(size: int, scale: float = 1.0) -> Choices:
    return choices(size, size, FALLING * scale, energy=8.0, multiple=1)


def cost(matrices: list[Choices], taken: list[int]) -> int:
    return sum(int(one.costs[place]) for one, place in zip(matrices, taken, strict=True))


def loss(matrices: list[Choices], taken: list[int]) -> float:
    return sum(float(one.losses[place]) for one, place in zip(matrices, taken, strict=True))


@pytest.mark.parametrize(
    ("shape", "multiple", "ranks"),
    [
        ((8, 8), 1, (1, 2, 3, None)),  # rank 4 is 64 numbers, as many as the matrix has
        ((8, 8), 2, (2, None)),
        ((8, 24), 2, (2, 4, None)),
        ((8, 25), 3, (3, 6, None)),  # 198 of 200
        ((8, 8), 16, (None,)),
    ],
)
def test_ranks_are_multiples_that_are_cheaper(
    shape: tuple[int, int], multiple: int, ranks: tuple[int | None, ...]
) -> None:
    found = choices(*shape, FALLING, energy=8.0, multiple=multiple)
    assert found.ranks == ranks
    wanted = [shape[0] * shape[1] if rank is None else rank * sum(shape) for rank in ranks]
    assert found.costs.tolist() == wanted
    assert found.losses.tolist() == [0.0 if rank is None else FALLING[rank] / 8.0 for rank in ranks]


def test_a_matrix_that_says_nothing_loses_nothing() -> None:
    assert choices(8, 8, np.zeros(9), energy=0.0, multiple=1).losses.tolist() == [0.0] * 4


@given(st.lists(st.tuples(st.integers(4, 8), st.floats(0.01, 1.0)), min_size=1, max_size=3), st.floats(0.3, 0.99))
def test_the_budget_holds_and_nothing_that_helps_is_left_out(sizes: list[tuple[int, float]], budget: float) -> None:
    matrices = [made(*size) for size in sizes]
    whole = cost(matrices, [len(one.costs) - 1 for one in matrices])
    least = cost(matrices, [0] * len(matrices))
    if least > int(budget * whole):
        with pytest.raises(LnmtError, match="too many numbers"):
            allocate(matrices, budget)
        return
    taken = allocate(matrices, budget)
    spent = cost(matrices, taken)
    assert spent <= budget * whole
    for place, one in enumerate(matrices):
        for later in range(taken[place] + 1, len(one.costs)):
            fits = spent + int(one.costs[later] - one.costs[taken[place]]) <= int(budget * whole)
            assert not fits or one.losses[later] >= one.losses[taken[place]]


@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=3), st.floats(0.3, 0.95))
def test_it_is_the_best_of_all(scales: list[float], budget: float) -> None:
    matrices = [made(8, scale) for scale in scales]
    limit = budget * 64 * len(matrices)
    try:
        taken = allocate(matrices, budget)
    except LnmtError:
        return
    every = product(*(range(len(one.costs)) for one in matrices))
    best = min(loss(matrices, list(one)) for one in every if cost(matrices, list(one)) <= limit)
    assert loss(matrices, taken) == pytest.approx(best, abs=1e-12), "all steps cost the same, so greedy is exact"


def test_the_matrix_that_loses_most_gets_most() -> None:
    matrices = [made(8, 1.0), made(8, 0.01)]
    taken = allocate(matrices, 0.7)
    assert matrices[0].ranks[taken[0]] is None
    assert matrices[1].ranks[taken[1]] == 1


def test_what_loses_nothing_gets_nothing() -> None:
    silent = choices(8, 8, np.zeros(9), energy=0.0, multiple=1)
    assert allocate([silent, silent], 0.99) == [0, 0]


def test_a_budget_that_is_too_small_says_what_would_do() -> None:
    matrices = [made(8), choices(8, 8, FALLING, 8.0, multiple=16)]  # 16 + 64 of 128 at least
    with pytest.raises(LnmtError, match="too many numbers") as caught:
        allocate(matrices, 0.5)
    assert (caught.value.where, caught.value.value) == ("low_rank.budget", 0.5)
    assert caught.value.allowed == "at least 0.625 for this model"
    assert allocate(matrices, 0.625) == [0, 0]
