from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.serving.processes.plan import Plan, plan


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [(1, 1, 1), (2, 1, 2), (8, 1, 8), (9, 2, 4), (16, 2, 8), (24, 3, 8), (64, 8, 8), (192, 24, 8)],
)
def test_a_machine_is_shared_out(cores: int, workers: int, threads: int) -> None:
    assert plan(cores) == Plan(workers, threads)


def test_what_is_given_stays() -> None:
    assert plan(16, workers=1) == Plan(1, 16)
    assert plan(16, workers=4) == Plan(4, 4)
    assert plan(16, threads=3) == Plan(2, 3)
    assert plan(16, workers=5, threads=1) == Plan(5, 1)
    assert plan(1, workers=3) == Plan(3, 1)


@given(cores=st.integers(1, 1024))
def test_no_core_is_promised_twice_and_few_are_left(cores: int) -> None:
    found = plan(cores)
    assert 1 <= found.threads <= 8
    assert found.workers * found.threads <= cores
    assert cores - found.workers * found.threads < found.workers
