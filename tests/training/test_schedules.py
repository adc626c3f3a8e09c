from __future__ import annotations

import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin
from lnmt.training.schedules import build_schedule


def factors(steps: int, **options: object) -> list[float]:
    schedule = build_schedule(Plugin.model_validate(options), steps)
    return [schedule(step) for step in range(steps)]


def test_linear_goes_up_and_straight_down() -> None:
    found = factors(10, name="linear", warmup_share=0.2)
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_goes_down_to_its_floor() -> None:
    found = factors(4, name="cosine", warmup_share=0.0)
    assert found == pytest.approx([1, 0.8535533906, 0.5, 0.1464466094])
    assert build_schedule(Plugin.model_validate({"name": "cosine", "warmup_share": 0, "floor": 0.1}), 4)(4) == 0.1


def test_constant_stays_up() -> None:
    assert factors(4, name="constant", warmup_share=0.5) == pytest.approx([1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_learns_and_none_above_the_rate(name: str, share: float, steps: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(steps, name=name, warmup_share=share))


def test_a_misspelt_name_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown schedule 'linaer'") as caught:
        factors(3, name="linaer", warmup_share=0.1)
    assert (caught.value.where, caught.value.fix) == ("params.yaml: train.schedule", "did you mean 'linear'?")


def test_a_share_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(LnmtError, match=r"warmup_share 1\.5 is not in 0…1"):
        factors(3, name="linear", warmup_share=1.5)
