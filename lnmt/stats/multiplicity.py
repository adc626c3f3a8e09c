"""Several hypotheses at once: p-values in, adjusted p-values out.

A hypothesis is rejected at the family-wise error rate α where its adjusted p-value is at most α: the chance that any
true one is rejected is then at most α, however the p-values depend on each other.

Legend: H = hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fixed_sequence(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p-values [H] of hypotheses tested in the given order, each at the whole α, up to the first that stands.

    The order must be settled before the data are looked at: by other data. Maurer, Hothorn & Lehmacher, in: Biometrie
    in der chemisch-pharmazeutischen Industrie 6, 1995; Angelopoulos et al., Learn then Test, arXiv 2110.01052, §4.
    """
    return np.asarray(np.maximum.accumulate(_checked(p_values)))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p-values [H] in no order. Holm, A simple sequentially rejective multiple test procedure, 1979."""
    found = _checked(p_values)
    order = np.argsort(found, kind="stable")
    factors = np.arange(len(found), 0, -1)
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.maximum.accumulate(found[order] * factors), 1.0)
    return adjusted


def intersection_union(p_values: Sequence[float]) -> float:
    """The p-value of "every part holds": the largest of the parts', uncorrected. Raises ValueError for no parts.

    Berger, Multiparameter hypothesis testing and acceptance sampling, Technometrics 1982: each part is a null of its
    own, and to be wrong at all is to be wrong on one that is true.
    """
    if len(p_values) == 0:
        raise ValueError("nothing holds of no parts: give at least one p-value")
    return float(_checked(p_values).max())


def _checked(p_values: Sequence[float]) -> NDArray[np.float64]:
    found = np.array(p_values, dtype=np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"p-values must be in 0…1: {found.tolist()}")
    return found
