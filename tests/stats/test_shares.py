from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.stats.shares import share_evidence, share_p_value, share_upper


def test_no_case_is_as_likely_as_that_none_comes() -> None:
    assert share_p_value(0, 280, 0.02) == pytest.approx(0.98**280)
    assert share_upper(0, 280, 0.95) == pytest.approx(1 - 0.05 ** (1 / 280))


def test_a_sum_by_hand() -> None:
    expected = sum(math.comb(10, k) * 0.3**k * 0.7 ** (10 - k) for k in range(3))
    assert share_p_value(2, 10, 0.3) == pytest.approx(expected)


def test_all_cases_bound_nothing() -> None:
    assert share_upper(5, 5, 0.95) == 1.0
    assert share_p_value(5, 5, 0.9) == 1.0


def test_evidence_is_both() -> None:
    found = share_evidence(3, 60, 0.1, 0.9)
    assert (found.rows, found.estimate) == (60, 0.05)
    assert (found.upper, found.p_value) == (share_upper(3, 60, 0.9), share_p_value(3, 60, 0.1))


@given(st.data(), st.integers(1, 500), st.floats(0.5, 0.999))
def test_the_bound_is_where_the_p_value_is_alpha(data: st.DataObject, rows: int, confidence: float) -> None:
    count = data.draw(st.integers(0, rows - 1))
    upper = share_upper(count, rows, confidence)
    assert count / rows < upper <= 1
    assert share_p_value(count, rows, upper) == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(count: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of {rows} is no share"):
        share_p_value(count, rows, 0.1)
    with pytest.raises(ValueError, match=f"{count} of {rows} is no share"):
        share_upper(count, rows, 0.95)


def test_limits_and_confidence_are_shares() -> None:
    with pytest.raises(ValueError, match=r"limit is 1\.5"):
        share_p_value(0, 5, 1.5)
    with pytest.raises(ValueError, match="confidence is 1"):
        share_upper(0, 5, 1)
