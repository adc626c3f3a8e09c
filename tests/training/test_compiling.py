from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.models.base import Inputs
from lnmt.models.classifier import EncoderClassifier
from lnmt.training import compiling
from lnmt.training.compiling import CompileChoice, choose_compile
from lnmt.training.execution import Execution
from lnmt.training.feed import to_batch
from tests.training.training_kit import make_loop, tiny_model, train_params

pytestmark = pytest.mark.usefixtures("one_thread")


class Untraceable(EncoderClassifier):
    """Fails where it is compiled."""

    def forward(self, inputs: Inputs) -> Any:
        if torch.compiler.is_compiling():
            raise ValueError("no graph of me")
        return super().forward(inputs)


def builder(encoder: Path, kind: type[EncoderClassifier] = EncoderClassifier) -> Any:
    def build(compiled: bool) -> Execution:
        model = tiny_model(encoder)
        model.__class__ = kind
        return Execution(model, train_params(), precision="fp32", compiled=compiled, device=torch.device("cpu"))

    return build


@pytest.fixture
def batches(tmp_path: Path, encoder: Path) -> Any:
    import numpy as np

    loop = make_loop(tmp_path / "loop", encoder)
    return [to_batch(loop.train, np.arange(start, start + 8), loop.tokenizer) for start in (0, 8)]


def test_not_asked_for_measures_nothing(tmp_path: Path) -> None:
    choice = choose_compile(False, lambda compiled: pytest.fail("built"), [], 10, tmp_path / "compile.json")
    assert choice == CompileChoice(False, "not asked for", {})


def test_a_short_run_is_not_compiled_and_the_choice_is_kept(tmp_path: Path, encoder: Path, batches: Any) -> None:
    kept = tmp_path / "compile.json"
    choice = choose_compile("auto", builder(encoder), batches, 10, kept)
    assert (choice.compiled, list(choice.seconds)) == (False, ["eager"])
    assert read_json(kept)["why"] == choice.why
    assert choose_compile("auto", lambda compiled: pytest.fail("built"), batches, 10**9, kept) == choice


def test_a_long_run_is_compiled_where_that_is_measured_to_pay(
    tmp_path: Path, encoder: Path, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.2, 0.2, 40.0, 0.1, 0.1])  # warm-up, eager twice, compiling, compiled twice
    monkeypatch.setattr(compiling, "_pass", lambda execution, batches: next(seconds))
    clock = iter([0.0, 40.0])
    monkeypatch.setattr("lnmt.training.compiling.time.perf_counter", lambda: next(clock))
    choice = choose_compile("auto", builder(encoder), batches, 2000, tmp_path / "compile.json")
    assert choice.compiled
    assert choice.why == "a step 100 ms eager, 50 ms compiled, 40 s to compile: over 2000 steps 60 s less"


def test_a_model_that_cannot_be_compiled_stays_eager_or_says_so(
    tmp_path: Path, encoder: Path, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "LEAST_S", 0.0)
    choice = choose_compile("auto", builder(encoder, Untraceable), batches, 10, tmp_path / "auto.json")
    assert not choice.compiled
    assert choice.why.startswith("the model cannot be compiled: ")
    with pytest.raises(LnmtError, match="the model cannot be compiled") as caught:
        choose_compile(True, builder(encoder, Untraceable), batches, 10, tmp_path / "true.json")
    assert (caught.value.where, caught.value.allowed) == ("params.yaml: train.compile", "false, or auto")
