from __future__ import annotations

import numpy as np
import pytest

from lnmt.optimization.compressions.int8_observe import Observed
from lnmt.optimization.compressions.int8_ranges import (
    CALIBRATIONS,
    Scale,
    activation_scale,
    entropy_threshold,
    quantised,
    weight_scales,
)
from lnmt.optimization.compressions.int8_scales import group_scales

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.normal(size=shape).astype(np.float32)


def test_the_smallest_and_largest_value_span_all_steps() -> None:
    scale = activation_scale(-1.0, 1.55, np.zeros((1, 1), np.float32), "minmax", symmetric=False)
    assert scale == Scale(pytest.approx(0.01), 100, False)  # type: ignore[arg-type]
    values = np.array([-1.0, 0.0, 0.004, 0.006, 1.55, 99.0], np.float32)
    assert scale.rounded(values) == pytest.approx([-1.0, 0.0, 0.0, 0.01, 1.55, 1.55], abs=1e-6)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_is_exact_also_where_no_value_is_near_it(calibration: str, symmetric: bool) -> None:
    sample = normal(64, 8) + 20
    low, high = float(sample.min()), float(sample.max())
    scale = activation_scale(low, high, sample, calibration, symmetric=symmetric)  # type: ignore[arg-type]
    assert scale.rounded(np.zeros(1, np.float32))[0] == 0
    assert scale.scale > 0
    if symmetric:
        assert scale.zero == 0


def test_activations_that_are_nothing_have_a_scale() -> None:
    nothing = np.zeros((4, 4), np.float32)
    for calibration in CALIBRATIONS:
        assert activation_scale(0.0, 0.0, nothing, calibration, symmetric=True).scale > 0


def test_percentile_and_entropy_cut_a_lonely_outlier() -> None:
    sample = normal(1000, 100)
    sample[0, 0] = 1000
    wide = activation_scale(float(sample.min()), 1000.0, sample, "minmax", symmetric=False)
    for calibration in ("percentile", "entropy"):
        narrow = activation_scale(float(sample.min()), 1000.0, sample, calibration, symmetric=False)
        assert narrow.scale < wide.scale / 10
    assert entropy_threshold(np.abs(sample)) < 100


def test_weights_keep_a_scale_for_each_output() -> None:
    weights = np.array([[0.5, 0.005, 0.0], [-2.0, -0.02, 0.0]], np.float32)
    scales = weight_scales(weights)
    assert scales == pytest.approx([2 / 127, 0.02 / 127, 1.0])
    assert quantised(weights, scales).tolist() == [[32, 32, 0], [-127, -127, 0]]


def test_smoothing_is_chosen_where_a_channel_outweighs_the_rest() -> None:
    calm, weights = normal(256, 32), normal(32, 16)
    wild = calm * np.where(np.arange(32) == 3, 200, 1).astype(np.float32)
    errors = {}
    for name, sample in (("calm", calm), ("wild", wild)):
        seen = Observed(sample.min(axis=0), sample.max(axis=0), sample)
        errors[name] = group_scales(seen, [weights], "minmax", symmetric=False)
    assert errors["wild"].alpha > 0
    assert errors["wild"].divisor is not None
    assert errors["wild"].divisor.argmax() == 3
    assert errors["wild"].error < 0.02
    assert errors["calm"].error < 0.02
