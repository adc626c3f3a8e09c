from __future__ import annotations

import numpy as np

from lnmt.training.plan import Plan, StepOrder
from tests.training.training_kit import tiny_examples, train_params


def evaluations(rows: int, **changes: object) -> tuple[int, list[int]]:
    plan = Plan.of(rows, train_params(**changes))
    return plan.steps, [step for step in range(1, plan.steps + 1) if plan.evaluates_after(step)]


def test_evaluations_fall_evenly_and_at_the_end() -> None:
    assert evaluations(160, batch_size=16, epochs=2, evaluations_per_epoch=2) == (20, [5, 10, 15, 20])
    assert evaluations(161, batch_size=16, epochs=1, evaluations_per_epoch=3) == (11, [4, 8, 11])
    assert evaluations(160, batch_size=16, epochs=1, evaluations_per_epoch=99) == (10, list(range(1, 11)))
    assert evaluations(3, batch_size=16, epochs=2, evaluations_per_epoch=1) == (2, [1, 2])


def test_max_steps_ends_a_run_with_an_evaluation() -> None:
    assert evaluations(160, batch_size=16, epochs=2, evaluations_per_epoch=1, max_steps=13) == (13, [10, 13])
    assert evaluations(160, batch_size=16, epochs=1, evaluations_per_epoch=1, max_steps=99) == (10, [10])


def test_accumulated_batches_make_fewer_steps() -> None:
    assert evaluations(160, batch_size=16, accumulate=4, epochs=2, evaluations_per_epoch=1) == (6, [3, 6])


def test_steps_see_every_row_once_an_epoch() -> None:
    params = train_params(batch_size=16, accumulate=3, epochs=2, max_steps=5)
    lengths = tiny_examples(100).lengths
    plan = Plan.of(100, params)
    order = StepOrder(lengths, plan, params)
    assert plan.steps_per_epoch == 3
    first = np.concatenate([places for step in range(3) for places in order.batches(step)])
    second = np.concatenate([places for step in range(3, 5) for places in order.batches(step)])
    assert sorted(first.tolist()) == list(range(100))
    assert first[: len(second)].tolist() != second.tolist()
    assert order.rows() == 100 + len(second)


def test_what_remains_after_some_steps_is_the_rest_of_the_run() -> None:
    params = train_params(batch_size=16, accumulate=3, epochs=2, max_steps=5)
    plan = Plan.of(100, params)
    lengths = tiny_examples(100).lengths
    whole = [places.tolist() for places in StepOrder(lengths, plan, params).remaining(0)]
    rest = [places.tolist() for places in StepOrder(lengths, plan, params).remaining(2)]
    assert [StepOrder(lengths, plan, params).batches_of(step) for step in range(5)] == [3, 3, 1, 3, 3]
    assert len(whole) == 13
    assert rest == whole[6:]
