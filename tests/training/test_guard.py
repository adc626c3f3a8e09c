from __future__ import annotations

import math

import pytest

from lnmt.errors import LnmtError
from lnmt.training.guard import LossGuard
from tests.training.training_kit import train_params

IDS = [f"row-{place}" for place in range(10)]


def settled(**changes: object) -> LossGuard:
    """A guard that has seen 30 losses of 2."""
    guard = LossGuard(train_params(**changes))
    assert all(guard.keeps(2.0, step, IDS) for step in range(1, 31))
    return guard


def test_the_running_mean_has_no_bias_towards_its_start() -> None:
    guard = LossGuard(train_params())
    assert math.isnan(guard.mean)
    guard.keeps(3.0, 1, IDS)
    assert guard.mean == pytest.approx(3.0)
    guard.keeps(1.0, 2, IDS)
    assert guard.mean == pytest.approx((0.98 * 0.02 * 3.0 + 0.02 * 1.0) / (1 - 0.98**2))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_no_number_stops_the_run_and_names_the_rows(loss: float) -> None:
    with pytest.raises(LnmtError, match=f"the training loss is {loss}") as caught:
        settled().keeps(loss, 31, IDS)
    assert caught.value.where == "step 31, rows row-0, row-1, row-2, row-3, row-4, row-5, row-6, row-7 …"
    assert caught.value.fix is not None
    assert "train.bad_loss: skip" in caught.value.fix


def test_a_spike_is_told_with_the_mean_it_came_from() -> None:
    guard = settled(loss_spike=3.0)
    assert guard.keeps(5.9, 31, IDS)
    with pytest.raises(LnmtError, match=r"jumped to 7, from a mean of 2\.") as caught:
        guard.keeps(7.0, 32, IDS[:2])
    assert (caught.value.where, caught.value.allowed) == (
        "step 32, rows row-0, row-1",
        "at most 3.0 × the mean (train.loss_spike)",
    )


def test_the_start_of_learning_is_no_spike() -> None:
    guard = LossGuard(train_params(loss_spike=2.0))
    assert all(guard.keeps(loss, step, IDS) for step, loss in enumerate([1.0, 9.0] * 9, start=1))


def test_skipping_leaves_bad_steps_out_until_there_are_too_many() -> None:
    guard = settled(bad_loss="skip")
    assert [guard.keeps(math.nan, step, IDS) for step in (31, 32, 33)] == [False] * 3
    assert guard.mean == pytest.approx(2.0)
    with pytest.raises(LnmtError, match="4 steps were bad so far, which is no accident"):
        guard.keeps(math.nan, 34, IDS)


def test_a_resumed_guard_judges_as_the_first_would_have() -> None:
    first = settled(loss_spike=3.0, bad_loss="skip")
    first.keeps(math.nan, 31, IDS)
    again = LossGuard(train_params(loss_spike=3.0, bad_loss="skip"))
    again.load_state_dict(first.state_dict())
    assert again.mean == first.mean
    assert [again.keeps(loss, 32, IDS) for loss in (6.5, 2.0)] == [False, True]
    assert again.state_dict()["left_out"] == 2


def test_gradients_that_overflow_are_a_bad_step() -> None:
    with pytest.raises(LnmtError, match="the gradient norm is inf") as caught:
        settled().note(True, 31, IDS[:1])
    assert caught.value.where == "step 31, rows row-0"
    patient = settled(bad_loss="skip")
    for step in (31, 32, 33):
        patient.note(True, step, IDS)
    with pytest.raises(LnmtError, match="4 steps were bad so far"):
        patient.note(True, 34, IDS)


def test_fp16_may_look_for_its_scale_but_not_for_ever() -> None:
    guard = settled(precision="fp16")
    for step in range(30):
        guard.note(True, step, IDS)
    guard.note(False, 31, IDS)
    for step in range(30):
        guard.note(True, step, IDS)
    with pytest.raises(LnmtError, match="the gradient norm is inf"):
        guard.note(True, 62, IDS)
