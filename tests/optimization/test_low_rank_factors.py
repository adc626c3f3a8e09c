from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lnmt.models.low_rank import parts
from lnmt.optimization.compressions.low_rank_factors import RIDGE, block_spectra, spectrum
from lnmt.optimization.compressions.moments import Moments

SHAPES = [(7, 5), (5, 7), (6, 6)]


def drawn(outputs: int, inputs: int, seed: int, tokens: int = 50) -> tuple[Tensor, Tensor]:
    """A weight [O, I], and inputs [N, I] that are not centred and of unlike variance."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(inputs, inputs, generator=generator) * torch.linspace(0.1, 3.0, inputs)
    states = torch.randn(tokens, inputs, generator=generator) @ mixed + torch.arange(inputs)
    return torch.randn(outputs, inputs, generator=generator), states.double()


def moments_of(states: Tensor) -> Moments:
    mean = states.mean(0)
    return Moments(mean, (states - mean).T @ (states - mean) / len(states))


def error(weight: Tensor, product: Tensor, states: Tensor) -> float:
    """The mean square of what the product answers wrong, besides a constant."""
    return float(((states - states.mean(0)) @ (weight - product).double().T).square().sum() / len(states))


@settings(deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10_000))
def test_each_rank_loses_what_is_told_and_the_svd_never_less(shape: tuple[int, int], seed: int) -> None:
    weight, states = drawn(*shape, seed)
    known, plain = spectrum(weight, moments_of(states)), spectrum(weight, Moments.unknown(shape[1]))
    whole = float(known.lost[0])
    for rank in range(1, min(shape) + 1):
        (up, down), (other_up, other_down) = known.factors(rank), plain.factors(rank)
        assert (up.shape, down.shape) == ((shape[0], rank), (rank, shape[1]))
        found = error(weight, up @ down, states)
        assert found == pytest.approx(float(known.lost[rank]), rel=1e-3, abs=1e-5 * whole)
        assert found <= error(weight, other_up @ other_down, states) + 1e-5 * whole
        assert float((weight - other_up @ other_down).norm()) <= float((weight - up @ down).norm()) + 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plain_one_is_the_truncated_svd(shape: tuple[int, int]) -> None:
    weight, _ = drawn(*shape, 1)
    left, strengths, right = torch.linalg.svd(weight, full_matrices=False)
    up, down = spectrum(weight, Moments.unknown(shape[1])).factors(3)
    torch.testing.assert_close(up @ down, left[:, :3] * strengths[:3] @ right[:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", ["full", "singular", "constant", "nothing"])
def test_the_full_rank_is_exact_for_all_inputs(shape: tuple[int, int], case: str) -> None:
    weight, states = drawn(*shape, 2)
    if case == "singular":
        states[:, 1:] = states[:, :1]  # one direction alone
    elif case != "full":
        states[:] = 3.0 if case == "constant" else 0.0
    found = spectrum(weight, moments_of(states))
    up, down = found.factors(min(shape))
    torch.testing.assert_close(up @ down, weight, rtol=1e-4, atol=1e-4)
    assert bool(torch.isfinite(found.lost).all())
    if case in ("constant", "nothing"):
        assert found.lost.count_nonzero() == 0, "what never changes can stand in the bias"
    if case == "singular":
        assert float(found.lost[1]) <= 10 * RIDGE * float(found.lost[0])


def test_losses_fall_to_nothing() -> None:
    weight, states = drawn(6, 6, 3)
    lost = spectrum(weight, moments_of(states)).lost
    assert len(lost) == 7
    assert bool((lost.diff() <= 0).all())
    assert float(lost[-1]) == 0.0


def test_rounding_that_makes_a_covariance_indefinite_is_outweighed() -> None:
    weight, states = drawn(6, 6, 4)
    known = moments_of(states)
    values, vectors = torch.linalg.eigh(known.covariance)
    values[0] = -1e-3 * values.mean()
    found = spectrum(weight, Moments(known.mean, vectors * values @ vectors.T))
    up, down = found.factors(6)
    torch.testing.assert_close(up @ down, weight, rtol=1e-4, atol=1e-4)


def test_both_factors_are_of_one_size_direction_by_direction() -> None:
    weight, states = drawn(6, 6, 5)
    up, down = spectrum(100 * weight, moments_of(states)).factors(4)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))


@pytest.mark.parametrize("shape", [*SHAPES, (9, 5)])
def test_blocks_are_those_of_the_weight(shape: tuple[int, int]) -> None:
    weight, states = drawn(*shape, 6)
    spectra = block_spectra(weight, moments_of(states), 2)
    rows = []
    for line in spectra:
        rows.append(torch.cat([up @ down for up, down in (one.factors(9) for one in line)], dim=1))
    torch.testing.assert_close(torch.cat(rows), weight, rtol=1e-4, atol=1e-4)
    assert [len(line[0].left) for line in spectra] == parts(shape[0], 2)
    assert [one.right.shape[1] for one in spectra[0]] == parts(shape[1], 2)
