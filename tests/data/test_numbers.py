from __future__ import annotations

import numpy as np
import pytest

from lnmt.data.numbers import KEPT, Numbers


def added(values: list[float], cuts: list[int]) -> Numbers:
    numbers = Numbers()
    for part in np.split(np.array(values), cuts):
        numbers.add(part)
    return numbers


def test_a_few_numbers_are_told_exactly() -> None:
    found = added([3, 1, 4, 1, 5, 9, 2, 6], cuts=[0, 1, 5]).summary()
    assert (found["minimum"], found["maximum"], found["mean"]) == (1, 9, pytest.approx(31 / 8))
    assert found["deviation"] == pytest.approx(np.std([3, 1, 4, 1, 5, 9, 2, 6]))
    assert found["quantiles"]["0.5"] == 3.5
    assert len(found["histogram"]) == 20
    assert (found["histogram"][0]["from"], found["histogram"][-1]["to"]) == (1, 9)
    assert found["histogram"][0]["share"] == 2 / 8


def test_nothing_and_one_number() -> None:
    assert Numbers().summary() == {}
    assert (Numbers().vary, Numbers().different) == (False, 0)
    one = added([2.0, 2.0], cuts=[1])
    assert (one.vary, one.different, one.summary()["deviation"]) == (False, 1, 0.0)
    assert [entry["share"] for entry in one.summary()["histogram"]] == [1.0]


def test_many_numbers_stand_in_bounded_memory() -> None:
    values = np.random.default_rng(0).normal(size=5 * KEPT)
    numbers = Numbers()
    for part in np.array_split(values, 7):
        numbers.add(part)
    assert np.array_equal(numbers._kept, values[::8])  # every eighth, whatever the batches were
    found = numbers.summary()
    assert found["mean"] == pytest.approx(values.mean())
    assert found["deviation"] == pytest.approx(values.std())
    assert found["quantiles"]["0.5"] == pytest.approx(np.median(values), abs=0.02)


def test_two_values_are_seen_though_the_sample_holds_one() -> None:
    values = np.zeros(4 * KEPT)
    values[1] = 1  # left out of every second
    numbers = Numbers()
    numbers.add(values)
    assert (numbers.vary, numbers.different) == (True, 2)
