from __future__ import annotations

import pytest
from pydantic import ValidationError

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Range, WholeRange
from lnmt.tuning.space import check_space, grid, shown, with_values
from tests.training.training_kit import train_params
from tests.tuning.tuning_kit import tune_params


def test_dotted_names_reach_into_sections_and_plugins() -> None:
    options = with_values(
        train_params(lora={"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["*query"]}),
        {"optimizer.lr": 3e-4, "batch_size": 8, "lora.rank": 2, "model.dropout": 0.3, "schedule.floor": 0.1},
    )
    assert options.optimizer.options["lr"] == 3e-4
    assert (options.batch_size, options.lora and options.lora.rank) == (8, 2)
    assert (options.model.options["dropout"], options.schedule.options["floor"]) == (0.3, 0.1)


def test_a_misspelt_name_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown parameter 'batchsize'") as caught:
        check_space(train_params(), tune_params(space={"batchsize": {"choices": [8, 16]}}))
    assert (caught.value.where, caught.value.fix) == ("params.yaml: tune.space", "did you mean 'batch_size'?")


def test_a_value_that_train_refuses_is_told_before_any_trial() -> None:
    with pytest.raises(LnmtError, match="a trial's parameters do not fit") as caught:
        check_space(train_params(), tune_params(space={"label_smoothing": {"low": 0.0, "high": 1.5}}))
    assert (caught.value.where, caught.value.value) == ("params.yaml: tune.space.label_smoothing", 1.5)


@pytest.mark.parametrize("space", [{"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}, {"choices": [1]}])
def test_empty_ranges_are_refused(space: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        tune_params(space={"optimizer.lr": space})


def test_whole_ends_make_a_range_of_whole_numbers() -> None:
    tune = tune_params(space={"epochs": {"low": 1, "high": 3}, "label_smoothing": {"low": 0.0, "high": 0.2}})
    assert type(tune.space["epochs"]) is WholeRange
    assert type(tune.space["label_smoothing"]) is Range
    assert grid(tune) == {"epochs": [1, 2, 3], "label_smoothing": pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])}


def test_choices_travel_by_place() -> None:
    tune = tune_params(space={"freeze": {"choices": [[], ["encoder.embeddings.*"]]}})
    assert grid(tune) == {"freeze": [0, 1]}
    assert shown(tune, {"freeze": 1}) == {"freeze": ["encoder.embeddings.*"]}
