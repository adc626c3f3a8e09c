from __future__ import annotations

import json
import math
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lnmt.errors import LnmtError
from lnmt.progress import Progress
from lnmt.training.feed import to_batch
from lnmt.training.guard import LossGuard
from lnmt.training.loop import Loop
from lnmt.training.plan import Plan, StepOrder
from lnmt.training.state import TrainState
from lnmt.training.validation import validate
from lnmt.types import Task
from tests.tiny_bundle import LABELS
from tests.training.training_kit import SignalProgress, make_loop

TASK: Task = "text-classification"

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_model_learns(tmp_path: Path, encoder: Path) -> None:
    model = {"name": "encoder_classifier", "dropout": 0.0}
    loop = make_loop(tmp_path, encoder, epochs=8, model=model, evaluations_per_epoch=1)
    learnt = partial(validate, examples=loop.train, tokenizer=loop.tokenizer, task=TASK, labels=LABELS)
    before = learnt(loop.execution)["loss"]
    state = loop.run()
    after = learnt(loop.execution)["loss"]
    assert math.isclose(before, math.log(3), rel_tol=0.05)
    assert state.step == 48
    assert state.curve[-1]["loss"] < 0.8 * state.curve[0]["loss"]
    assert after < before


def test_the_curve_tells_every_step_once(tmp_path: Path, encoder: Path) -> None:
    state = make_loop(tmp_path, encoder, epochs=4, max_steps=23).run()
    assert [point["step"] for point in state.curve] == [10, 20, 23]
    assert [point["epoch"] for point in state.curve] == [10 / 6, 20 / 6, 23 / 6]
    assert state.samples == 23 * 16
    assert state.curve[1]["lr"] == pytest.approx(2e-2 * (1 - 17 / 21)), "step 19 of 23, 2 of them warm-up"


def test_live_metrics_are_in_the_progress_file(tmp_path: Path, encoder: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl", show=False)
    state = make_loop(tmp_path, encoder, progress, epochs=2).run()
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    told = [line for line in lines if "metrics" in line]
    assert [line["step"] for line in told if "train.loss" in line["metrics"]] == [10, 12]
    scores = {line["step"]: line["metrics"] for line in told if "validation.macro_f1" in line["metrics"]}
    assert {step: found["validation.macro_f1"] for step, found in scores.items()} == {
        int(found["step"]): found["macro_f1"] for found in state.validation
    }
    bars = [line for line in lines if line.get("what") == "train"]
    assert (bars[-1]["done"], bars[-1]["total"]) == (192, 192)
    assert {"loss", "lr", "rate", "tokens_per_s", "mfu"} <= bars[-1].keys()


def test_patience_ends_a_run_and_the_best_weights_stay(tmp_path: Path, encoder: Path) -> None:
    # Too high a rate: the model gives one label for all rows, and never gets better than that.
    loop = make_loop(
        tmp_path,
        encoder,
        epochs=20,
        patience=2,
        optimizer={"name": "adamw", "lr": 1.0, "weight_decay": 0.0},
    )
    state = loop.run()
    assert state.stopped
    assert state.step < 120
    assert len(state.validation) * 3 == state.step, "evaluated twice an epoch of 6 steps"
    metrics = [found["macro_f1"] for found in state.validation]
    assert state.best_step == state.validation[int(np.argmax(metrics))]["step"]
    assert len(metrics) == int(np.argmax(metrics)) + 1 + 2
    loop.execution.model.load_state_dict(loop.checkpoints.weights(state.best_step))
    assert state.best == loop.validate(loop.execution)


def gradients(loop: Loop, batches: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> list[torch.Tensor]:
    """What one step hands to the optimiser."""
    found: list[torch.Tensor] = []
    model, optimizer = loop.execution.model, loop.execution.optimizer

    def look(*_: object) -> None:
        found.extend(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)

    optimizer.register_step_pre_hook(look)
    group = [to_batch(loop.train, places, loop.tokenizer) for places in batches]
    loop._step(group, 1.0, TrainState(), LossGuard(loop.options), 0.0, 0.0)
    return found


@pytest.mark.parametrize("cut", [[16], [24], [5, 20]])
def test_accumulated_batches_are_one_batch(tmp_path: Path, encoder: Path, cut: list[int]) -> None:
    places = np.random.default_rng(0).permutation(96)[:32]
    whole, parts = (make_loop(tmp_path, encoder, max_gradient_norm=0.5) for _ in range(2))
    for loop in (whole, parts):
        loop.execution.model.eval()  # no dropout
    one, other = gradients(whole, [places]), gradients(parts, np.split(places, cut))
    assert len(one) == len(list(whole.execution.model.parameters()))
    for expected, found in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_their_norm(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, max_gradient_norm=1e-3)
    found = gradients(loop, [np.arange(16)])
    assert float(torch.nn.utils.get_total_norm(found)) == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_no_number_names_its_rows(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder)
    order = StepOrder(loop.train.lengths, Plan.of(96, loop.options), loop.options)
    row = int(order.batches(4)[0][0])
    token = 79  # of this row alone
    for examples in (loop.train, loop.validate.keywords["examples"]):  # type: ignore[attr-defined]
        examples.tokens[examples.tokens == token] = 78
    loop.train.tokens[loop.train.starts[row]] = token
    with torch.no_grad():
        loop.execution.model.get_parameter("encoder.embeddings.word_embeddings.weight")[token] = math.nan

    with pytest.raises(LnmtError, match="the training loss is nan") as caught:
        loop.run()

    expected = ", ".join(f"row-{place}" for place in order.batches(4)[0][:8])
    assert caught.value.where == f"step 5, rows {expected} …"
    assert caught.value.value == "lr 0.02, precision fp32"
    assert [path.name for path in loop.checkpoints.directory.iterdir()] == ["step-00000003"], "the last good one"


def test_weights_that_broke_in_the_last_step_are_not_kept(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(
        tmp_path, encoder, max_steps=1, optimizer={"name": "sgd", "lr": 3e38, "weight_decay": 1.0, "momentum": 0.0}
    )
    with pytest.raises(LnmtError, match="the validation loss is") as caught:
        loop.run()
    assert caught.value.where == "step 1"


@pytest.mark.parametrize(
    ("step", "number", "error"),
    [(1, signal.SIGINT, KeyboardInterrupt), (7, signal.SIGTERM, SystemExit), (12, signal.SIGINT, KeyboardInterrupt)],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, encoder: Path, step: int, number: int, error: type[BaseException]
) -> None:
    whole = make_loop(tmp_path / "whole", encoder, epochs=2)
    expected = whole.run()

    with pytest.raises(error):
        make_loop(tmp_path / "cut", encoder, SignalProgress(step, number), epochs=2).run()
    torch.manual_seed(12345)  # another process would stand elsewhere
    rest = make_loop(tmp_path / "cut", encoder, epochs=2)
    assert rest.checkpoints.path(step).is_dir()
    state = rest.run()

    assert [point["loss"] for point in state.curve] == [point["loss"] for point in expected.curve]
    assert state.validation == expected.validation
    assert (state.best_step, state.samples) == (expected.best_step, expected.samples)
    for name, tensor in whole.execution.model.state_dict().items():
        assert torch.equal(tensor, rest.execution.model.state_dict()[name]), name


def test_a_finished_run_only_gives_its_best_weights(tmp_path: Path, encoder: Path) -> None:
    first = make_loop(tmp_path, encoder, epochs=2)
    state = first.run()
    again = make_loop(tmp_path, encoder, epochs=2)
    assert again.run() == state
    for name, tensor in first.execution.model.state_dict().items():
        assert torch.equal(tensor, again.execution.model.state_dict()[name]), name
