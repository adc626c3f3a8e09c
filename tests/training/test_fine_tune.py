from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel
from lnmt.models.structure import STRUCTURE, add_operation
from lnmt.params import FineTune, Plugin
from lnmt.progress import Progress
from lnmt.training.callbacks import Callback
from lnmt.training.callbacks.callback import Run, StepResult
from lnmt.training.fine_tune import fine_tune, fine_tune_options
from lnmt.training.fit import fingerprint
from lnmt.training.prepare import TrainingData
from lnmt.training.teacher import Teacher
from tests.optimization.weights_kit import workshop
from tests.tiny_bundle import tiny_bundle
from tests.training.training_kit import train_params

LAYER = "encoder.encoder.layer"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("fine-tune") / "bundle")


@pytest.fixture
def data(bundle: Bundle, tmp_path: Path) -> TrainingData:
    return workshop(bundle, tmp_path / "shop").data


def dropped(bundle: Bundle) -> BaseModel:
    model = load_model(bundle)
    add_operation(model, {"kind": "drop", "module": LAYER, "keep": [1]})
    return model


class FallOver(Callback):
    """Ends a run with an error after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def after_step(self, run: Run, step: StepResult) -> None:
        if step.step == self._step:
            raise RuntimeError("fallen over")


def tuned(bundle: Bundle, data: TrainingData, work: Path, fall: int | None = None, **changes: Any) -> BaseModel:
    teacher = Teacher(bundle, hidden={f"{LAYER}.0": f"{LAYER}.1"})
    return fine_tune(
        dropped(bundle),
        bundle,
        fine_tune_options(train_params(), FineTune(epochs=1, lr=1e-3), checkpoint_s=1e-9, **changes),
        data,
        teacher=teacher,
        work=work,
        progress=Progress(show=False),
        callbacks={} if fall is None else {"fall-over": FallOver(fall)},
    )


def test_a_run_that_fell_over_ends_with_the_same_weights(bundle: Bundle, data: TrainingData, tmp_path: Path) -> None:
    whole = tuned(bundle, data, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="fallen over"):
        tuned(bundle, data, tmp_path / "cut", fall=7)
    steps = sorted(path.name for path in (tmp_path / "cut/run/checkpoints").iterdir())
    assert steps[-1] == "step-00000006"
    again = tuned(bundle, data, tmp_path / "cut")
    expected, found = whole.state_dict(), again.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_what_comes_back_has_learnt_and_is_plain(bundle: Bundle, data: TrainingData, tmp_path: Path) -> None:
    before = dropped(bundle)
    after = tuned(bundle, data, tmp_path)
    assert type(after) is type(before)
    assert not after.training
    assert after.config == before.config
    assert [operation["kind"] for operation in after.config[STRUCTURE]] == ["drop"]
    assert not torch.equal(after.get_parameter("head.weight"), before.get_parameter("head.weight"))


def test_another_teacher_is_another_run(bundle: Bundle, data: TrainingData, tmp_path: Path) -> None:
    options = train_params()
    other = tiny_bundle(tmp_path / "other", seed=1)
    teachers = (None, Teacher(bundle), Teacher(other), Teacher(bundle, weight=0.4), Teacher(bundle, temperature=4.0))
    prints = [fingerprint(options, replace(data, teacher=one), (), {})["teacher"] for one in teachers]
    assert all(prints.count(one) == 1 for one in prints)
    assert prints[0] is None
    assert prints[1]["bundle"] == bundle.digest


def test_what_a_changed_model_cannot_take_over_starts_afresh() -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["*query"]}
    train = train_params(freeze=["encoder.*"], lora=lora, layer_decay=0.9, compile="auto", batch_size=4)
    options = fine_tune_options(train, FineTune(epochs=3, lr=5e-5), precision="bf16")
    assert (options.freeze, options.lora, options.layer_decay, options.compile) == ([], None, 1.0, False)
    assert (options.epochs, options.optimizer.options["lr"], options.precision) == (3, 5e-5, "bf16")
    assert options.optimizer.options["weight_decay"] == 0.01
    assert (options.batch_size, options.seed, options.metric) == (4, train.seed, train.metric)


def test_an_optimiser_without_a_rate_keeps_its_own() -> None:
    train = train_params(optimizer=Plugin(name="lion-of-a-plugin", beta=0.9))
    assert fine_tune_options(train, FineTune(epochs=1, lr=5e-5)).optimizer == train.optimizer


def test_nothing_is_learnt_from_no_rows(bundle: Bundle, tmp_path: Path) -> None:
    empty = workshop(bundle, tmp_path / "shop", train=[]).data
    with pytest.raises(LnmtError, match="the train split has no rows"):
        tuned(bundle, empty, tmp_path)
