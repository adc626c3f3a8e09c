"""A share, such as of answers that changed: exact tests and bounds of the binomial distribution.

Clopper & Pearson, The use of confidence or fiducial limits, Biometrika 1934.
"""

from __future__ import annotations

from lnmt.stats.noninferiority import Evidence


def share_p_value(count: int, rows: int, limit: float) -> float:
    """The p-value of H0 "the share is at least `limit`" where `count` of `rows` were seen. Raises ValueError."""
    from scipy.special import bdtr

    _check(count, rows)
    if not 0 <= limit <= 1:
        raise ValueError(f"limit is {limit}; it must be in 0…1")
    return float(bdtr(float(count), rows, limit))


def share_upper(count: int, rows: int, confidence: float) -> float:
    """The share is at most this, at `confidence` (one-sided). Raises ValueError."""
    from scipy.special import betaincinv

    _check(count, rows)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be above 0 and below 1")
    return 1.0 if count == rows else float(betaincinv(count + 1, rows - count, confidence))


def share_evidence(count: int, rows: int, limit: float, confidence: float) -> Evidence:
    """Both, beside the share that was seen."""
    return Evidence(rows, count / rows, share_upper(count, rows, confidence), share_p_value(count, rows, limit))


def _check(count: int, rows: int) -> None:
    if rows < 1 or not 0 <= count <= rows:
        raise ValueError(f"{count} of {rows} is no share; there must be at least one row, and no more than all")
