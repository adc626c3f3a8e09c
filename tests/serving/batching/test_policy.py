from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.runtime.options import Options
from lnmt.serving.batching.policy import Waiting, padded_tokens, release

BURST = Waiting(rows=2, expected_rows=8, oldest_s=0.0, gap_s=1e-4, full=False)


def test_a_lone_client_never_waits() -> None:
    assert release(replace(BURST, rows=1, expected_rows=1), fixed_s=1.0, max_wait_s=1.0) == "nobody else"


def test_a_full_batch_leaves() -> None:
    assert release(replace(BURST, full=True), fixed_s=1.0, max_wait_s=1.0) == "full"


def test_it_waits_while_that_gains() -> None:
    assert release(BURST, fixed_s=1e-3, max_wait_s=5e-3) == 1e-4


def test_it_leaves_when_waiting_costs_more_than_a_batch() -> None:
    assert release(replace(BURST, rows=7), fixed_s=7e-4, max_wait_s=5e-3) == "gain below cost"


def test_no_row_waits_longer_than_allowed() -> None:
    assert release(replace(BURST, oldest_s=5e-3), fixed_s=1.0, max_wait_s=5e-3) == "longest wait"
    assert release(replace(BURST, oldest_s=4.95e-3), fixed_s=1.0, max_wait_s=5e-3) == pytest.approx(5e-5)


def test_padding_without_groups_is_up_to_the_widest() -> None:
    assert padded_tokens([8, 16, 32], Options()) == 96


def test_padding_with_groups_is_up_to_each_groups_widest() -> None:
    assert padded_tokens([8, 32, 16], Options(group_rows=2)) == 2 * 32 + 8


@given(st.lists(st.integers(1, 512), min_size=1), st.none() | st.integers(1, 40), st.integers(1, 3))
def test_padding_is_never_less_than_the_rows(widths: list[int], group_rows: int | None, streams: int) -> None:
    assert sum(widths) <= padded_tokens(widths, Options(group_rows, streams)) <= max(widths) * len(widths)
