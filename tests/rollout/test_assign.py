from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.rollout.assign import assign
from lnmt.rollout.deployment import Deployment

CANARY = Deployment("sentiment", 2, "canary", "sha256:a", "sha256:b", 0.3, 3.0, "try b")
CHAMPION = Deployment("sentiment", 1, "promoted", "sha256:a", None, 0.0, 3.0, "first")
KEYS = [f"user-{index}" for index in range(20_000)]
ORDER = {"champion": 0, "challenger": 1}


def test_without_a_challenger_the_champion_answers() -> None:
    assert {assign(CHAMPION, key, 0.0) for key in [None, *KEYS[:100]]} == {"champion"}


@pytest.mark.parametrize(("draw", "arm"), [(0.0, "challenger"), (0.2999, "challenger"), (0.3, "champion")])
def test_without_a_key_the_draw_decides(draw: float, arm: str) -> None:
    assert assign(CANARY, None, draw) == arm


def test_the_arms_of_known_keys_never_change() -> None:
    found = [assign(CANARY, key, 0.0) for key in KEYS[:8]]
    assert [ORDER[arm] for arm in found] == [0, 1, 0, 1, 0, 1, 0, 0]


def test_the_share_of_keys_is_the_share() -> None:
    # 20,000 draws at 0.3: the standard deviation of the share is 0.0032
    found = sum(assign(CANARY, key, 0.99) == "challenger" for key in KEYS) / len(KEYS)
    assert found == pytest.approx(0.3, abs=0.013)


def test_another_challenger_divides_the_keys_anew() -> None:
    other = replace(CANARY, challenger="sha256:c")
    both = sum(assign(CANARY, key, 0) == assign(other, key, 0) == "challenger" for key in KEYS) / len(KEYS)
    assert both == pytest.approx(0.09, abs=0.009)


@given(key=st.text(), low=st.floats(0, 1), high=st.floats(0, 1), draw=st.floats(0, 1, exclude_max=True))
def test_a_growing_share_never_takes_a_key_back(key: str, low: float, high: float, draw: float) -> None:
    low, high = sorted((low, high))
    before = assign(replace(CANARY, share=low), key, draw)
    assert ORDER[before] <= ORDER[assign(replace(CANARY, share=high, generation=9), key, 1 - draw)]


@given(key=st.none() | st.text(), draw=st.floats(0, 1, exclude_max=True))
def test_share_0_and_1_leave_no_one_out(key: str | None, draw: float) -> None:
    assert assign(replace(CANARY, share=0.0), key, draw) == "champion"
    assert assign(replace(CANARY, share=1.0), key, draw) == "challenger"


def test_a_key_that_is_no_unicode_is_a_key() -> None:
    assert assign(CANARY, "\udcff", 0.0) in ("champion", "challenger")
