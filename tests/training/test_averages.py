from __future__ import annotations

import torch

from lnmt.training.averages import WeightAverages


def test_the_decay_grows_to_its_value() -> None:
    weight = torch.zeros(2)
    averages = WeightAverages({"weight": weight}, decay=0.3)
    weight.fill_(1.0)
    seen = []
    for _ in range(4):
        averages.update({"weight": weight})
        seen.append(float(averages.state_dict()["averages"]["weight"][0]))
    expected, value = [], 0.0
    for step in range(4):
        decay = min(0.3, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * 1.0
        expected.append(value)
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected))


def test_averages_stand_in_and_the_weights_come_back() -> None:
    weight = torch.tensor([1.0], dtype=torch.bfloat16)
    averages = WeightAverages({"weight": weight}, decay=0.5)
    weight.fill_(3.0)
    averages.update({"weight": weight})  # decay 0.1: 0.1 × 1 + 0.9 × 3
    with averages.in_place_of({"weight": weight}):
        assert float(weight) == torch.tensor(2.8).bfloat16()
    assert float(weight) == 3.0


def test_state_goes_through_a_checkpoint() -> None:
    weight = torch.tensor([1.0])
    first = WeightAverages({"weight": weight}, decay=0.9)
    weight.fill_(2.0)
    first.update({"weight": weight})
    again = WeightAverages({"weight": torch.tensor([7.0])}, decay=0.9)
    again.load_state_dict(first.state_dict())
    first.update({"weight": weight})
    again.update({"weight": weight})
    assert first.state_dict()["steps"] == again.state_dict()["steps"] == 2
    assert torch.equal(first.state_dict()["averages"]["weight"], again.state_dict()["averages"]["weight"])
