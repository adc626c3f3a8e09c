from __future__ import annotations

import numpy as np
import pytest

from lnmt.stats.projection import DIMENSIONS, project


def test_the_projection_is_fixed_for_ever() -> None:
    # Events written by one release are compared with profiles written by another.
    found = project(np.eye(2, 3, dtype=np.float32))
    assert found.shape == (2, DIMENSIONS)
    assert found.dtype == np.float32
    assert found[0, :3] == pytest.approx(FIRST, abs=1e-6)


FIRST = [-0.0891854, 0.7678720, -0.8054866]


def test_one_row_projects_as_it_does_in_a_batch() -> None:
    pooled = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    assert project(pooled[3]) == pytest.approx(project(pooled)[3], abs=1e-5)


def test_distances_are_kept_in_expectation() -> None:
    rng = np.random.default_rng(1)
    pooled = rng.normal(size=(200, 64))
    kept = np.mean([((project(pooled, 8, seed)) ** 2).sum() for seed in range(50)])
    assert kept == pytest.approx((pooled**2).sum(), rel=0.02)
