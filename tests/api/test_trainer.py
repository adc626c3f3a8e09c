from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lnmt import Dataset, Model, Trainer
from lnmt.api.options import spelt_out, train_params
from lnmt.bundles import Bundle
from lnmt.core import BaseModel, Callback, Inputs, Outputs
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import sha256_file
from lnmt.models import load_model
from lnmt.optimization import BaseOptimizer
from lnmt.params import Plugin, load_params
from lnmt.plugins import register_model, register_optimizer
from lnmt.training.callbacks.callback import Run, StepResult
from lnmt.types import LabelsPrediction, NumberPrediction, TagsPrediction, Task, TextPrediction
from tests.task_kit import LABELS, task_rows

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16, "precision": "fp32", "max_tokens": 32}


def options(**said: Any) -> Any:
    return train_params(spelt_out(said), model=Plugin(name="encoder_classifier"), encoder="local:x", digest=None)


def test_what_is_not_said_is_as_shipped() -> None:
    shipped = load_params(ROOT / "params.yaml").train
    given = {"model": Plugin(name="encoder_classifier"), "encoder": "local:x", "digest": None}
    assert options() == shipped.model_copy(update=given)


@pytest.mark.parametrize(
    ("said", "name", "value"),
    [
        ({"gradient_clipping": 0.5}, "max_gradient_norm", 0.5),
        ({"gradient_clipping": None}, "max_gradient_norm", None),
        ({"learning_rate": 0.1}, "optimizer", Plugin(name="adamw", lr=0.1, weight_decay=0.01)),
        ({"optimizer": "sgd", "learning_rate": 0.1}, "optimizer", Plugin(name="sgd", lr=0.1)),
        ({"optimizer": {"name": "sgd", "lr": 0.2}}, "optimizer", Plugin(name="sgd", lr=0.2)),
        ({"optimizer": "adamw", "weight_decay": 0.0}, "optimizer", Plugin(name="adamw", lr=2e-4, weight_decay=0.0)),
        ({"max_length": 16}, "max_tokens", 16),
        ({"callbacks": ["tensorboard"]}, "callbacks", [Plugin(name="tensorboard")]),
    ],
)
def test_other_spellings_are_understood(said: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(options(**said), name) == value


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"learningrate": 1}, "did you mean 'learning_rate'?"),
        ({"epoch": 1}, "did you mean 'epochs'?"),
        ({"encoder": "x"}, "unknown training parameter 'encoder'"),
        ({"epochs": 0}, r"train.epochs: .*\(found 0\)"),
        ({"max_length": 8, "max_tokens": 8}, "a parameter is said twice"),
        ({"precision": "fp8"}, "train.precision"),
    ],
)
def test_what_does_not_fit_is_told_at_once(here: Path, said: dict[str, Any], message: str) -> None:
    with pytest.raises(LnmtError, match=message):
        Trainer(Model("local:encoder"), **said)


def data_of(task: Task, rows: int = 80) -> Dataset:
    found = task_rows(task, rows)
    targets = None if task == "text-generation" else [row["label"] for row in found]
    return Dataset.from_rows([row["text"] for row in found], targets, task=task, labels=LABELS[task])


@pytest.mark.parametrize(
    ("task", "encoder", "kind", "metric"),
    [
        ("multi-label-classification", "encoder", LabelsPrediction, "micro_f1"),
        ("text-regression", "encoder", NumberPrediction, "rmse"),
        ("token-classification", "encoder", TagsPrediction, "micro_f1"),
        ("text-generation", "language-model", TextPrediction, "loss"),
    ],
)
def test_every_task_is_trained_evaluated_and_answered(
    here: Path, task: Task, encoder: str, kind: type, metric: str
) -> None:
    data = data_of(task)
    trainer = Trainer(Model(f"local:{encoder}"), **QUICK)
    model = trainer.fit(data)
    assert model.task == task
    assert metric in trainer.evaluate(data)
    assert isinstance(trainer.predict([data.texts[0]])[0], kind)
    evidence = model.trained.manifest.evidence
    assert metric in evidence["validation"]
    assert Model.load(model.save("saved")).trained.digest == model.trained.digest


def test_the_same_call_gives_the_same_weights(here: Path) -> None:
    data = data_of("text-classification")
    digests = set()
    for _ in range(2):
        model = Model("local:encoder").train(data, **QUICK)
        digests.add(sha256_file(model.trained.file("model.safetensors")))
    assert len(digests) == 1


class Count(Callback):
    """Counts, and keeps its count in checkpoints."""

    def __init__(self) -> None:
        self.steps = 0
        self.lr = 0.0

    def after_step(self, run: Run, step: StepResult) -> None:
        self.steps += 1
        self.lr = max(self.lr, step.lr)
        if self.steps == 3:
            run.stop("three are enough")

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def test_a_callback_may_be_an_object(here: Path) -> None:
    count = Count()
    model = Model("local:encoder").train(data_of("text-classification"), callbacks=[count], learning_rate=3e-3, **QUICK)
    assert count.steps == 3
    assert 0 < count.lr <= 3e-3
    assert model.trained.manifest.evidence["step"] == 3


def test_the_specifications_own_words_are_run(here: Path, plugin_tables: None) -> None:
    """Its snippets, with their gaps filled as briefly as can be."""

    @register_model("my-custom-model")
    class CustomModel(BaseModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.words = torch.nn.EmbeddingBag(config["vocabulary"], 16, mode="mean")
            self.head = torch.nn.Linear(16, self.labels)

        def forward(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
            weights = inputs["attention_mask"].float()
            pooled = (self.words.weight[inputs["input_ids"]] * weights[:, :, None]).sum(1) / weights.sum(1)[:, None]
            return self.head(pooled), pooled

        def training_step(self, batch: Any) -> torch.Tensor:
            logits, _ = self(batch.inputs)
            return torch.nn.functional.cross_entropy(logits, batch.labels)

    @register_optimizer("plain-steps")
    class PlainSteps(BaseOptimizer):
        def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
            super().__init__(parameters)
            self.lr = lr

        def step(self, closure: Any = None) -> Any:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.add_(parameter.grad, alpha=-group["lr"])

    train, validation, test = data_of("text-classification", 200).split(0.7, 0.15, 0.15)
    model = Model("my-custom-model", encoder="local:encoder")
    trainer = Trainer(
        model=model, precision="fp32", gradient_clipping=1.0, optimizer="plain-steps", learning_rate=5.0,
        epochs=30, patience=60, batch_size=8, max_tokens=32,
    )  # fmt: skip
    trainer.fit(train, validation)
    assert trainer.evaluate(test)["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("logits", "a model must return two tensors of floats"),
        ("wide", "a model gave logits of a wrong shape for text-classification"),
        ("raise", "no luck"),
    ],
)
def test_a_plugin_that_misbehaves_is_named(here: Path, plugin_tables: None, returned: str, message: str) -> None:
    @register_model("bad-model")
    class BadModel(BaseModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.words = torch.nn.Embedding(config["vocabulary"], 8)
            self.head = torch.nn.Linear(8, self.labels + (returned == "wide"))

        def forward(self, inputs: Inputs) -> Any:
            if returned == "raise":
                raise RuntimeError("no luck")
            pooled = self.words(inputs["input_ids"]).mean(dim=1)
            logits = self.head(pooled)
            return logits if returned == "logits" else Outputs(logits, pooled)

    with pytest.raises((LnmtError, RuntimeError), match=message):
        Model("bad-model", encoder="local:encoder").train(data_of("text-classification"), **QUICK)


def test_an_unknown_plugin_has_its_neighbour_named(here: Path) -> None:
    data = data_of("text-classification")
    for said, fix in (({"optimizer": "adamv"}, "adamw"), ({"callbacks": ["tensorbord"]}, "tensorboard")):
        with pytest.raises(UnknownName) as caught:
            Model("local:encoder").train(data, **{**QUICK, **said})
        assert caught.value.fix == f"did you mean {fix!r}?"
    with pytest.raises(UnknownName, match="option of 'adamw'") as option:
        Model("local:encoder").train(data, optimizer={"name": "adamw", "lr": 1e-3, "beta": 1}, **QUICK)
    assert "beta1" in str(option.value.allowed)


def test_data_that_does_not_fit_is_told(here: Path) -> None:
    data = data_of("text-classification")
    trainer = Trainer(Model("local:encoder"), **QUICK)
    with pytest.raises(LnmtError, match="train and validation have not the same task"):
        trainer.fit(data, data_of("text-regression"))
    with pytest.raises(LnmtError, match="have not the same processors"):
        trainer.fit(data, data.process("whitespace"))
    other = Dataset.from_rows(["a", "b"], ["negative", "new"])
    with pytest.raises(LnmtError, match="validation has labels that train lacks") as caught:
        trainer.fit(data, other)
    assert caught.value.value == "new"
    loaded = Trainer(Model.load("models/mood"))
    with pytest.raises(LnmtError, match="this trained model cannot go on learning from these data") as caught:
        loaded.fit(data_of("text-regression"))
    assert caught.value.value == "text-classification of negative, positive, for torch in fp32"
    with pytest.raises(LnmtError, match="the data set is of another task"):
        loaded.evaluate(data_of("text-regression"))
    with pytest.raises(UnknownName, match="unknown label 'new'"):
        loaded.evaluate(other)


SCRIPT = """
import os, signal, sys
import torch
import lnmt
from lnmt.core import Callback

class Kill(Callback):
    def after_save(self, run, path):
        if run.state.step >= int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

data = lnmt.Dataset.from_csv("reviews.csv", text="review", label="mood")
torch.set_num_threads(1)
options = {"epochs": 4, "batch_size": 8, "precision": "fp32", "max_tokens": 32, "patience": 99}
lnmt.Trainer("local:encoder", work="work", callbacks=[Kill()], **options).fit(data).save("model")
"""


def test_a_killed_fit_goes_on_to_the_same_weights(here: Path) -> None:
    """Killed after a checkpoint; called again with the same work directory, it ends where it would have."""

    def run_script(step: int) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, str(step)], env=environment, capture_output=True, text=True, check=False
        )

    data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    said: dict[str, Any] = {"epochs": 4, "batch_size": 8, "precision": "fp32", "max_tokens": 32, "patience": 99}
    whole = Trainer("local:encoder", work="whole", **said).fit(data)
    assert not (here / "whole/run").exists()
    killed = run_script(10)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (here / "work/run/checkpoints").is_dir()
    again = run_script(10**6)
    assert again.returncode == 0, again.stderr
    assert "goes on from step" in again.stderr
    weights = [bundle.file("model.safetensors") for bundle in (whole.trained, Bundle.open(here / "model"))]
    assert len({sha256_file(path) for path in weights}) == 1


def test_a_loaded_model_learns_on_from_its_weights(here: Path) -> None:
    data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    first = Model.load("models/mood")
    digest = first.trained.digest
    again = Model.load("models/mood").train(data, learning_rate=1e-6, **{**QUICK, "max_tokens": 20})
    manifest = again.trained.manifest
    assert (manifest.parent, manifest.max_tokens) == (digest, 20)
    losses = [one.evidence["validation"]["loss"] for one in (first.trained.manifest, manifest)]
    assert losses[1] == pytest.approx(losses[0], abs=0.01), "a fresh head would start at ln 2, and hardly move"
    assert losses[0] < 0.3
    for name, weight in load_model(first.trained).state_dict().items():
        assert torch.allclose(weight, load_model(again.trained).state_dict()[name], atol=1e-3), name
