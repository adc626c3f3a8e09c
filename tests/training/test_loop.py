from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lnmt.errors import LnmtError
from lnmt.progress import Progress
from lnmt.training.checkpoint import TrainState
from lnmt.training.loop import Loop, Plan, StepOrder
from lnmt.training.optimizers import build_optimizer
from lnmt.training.validation import validate
from tests.training.training_kit import SignalProgress, make_loop, tiny_examples, train_params

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_model_learns(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, epochs=8, dropout=0.0, evaluations_per_epoch=1)
    before = validate(loop.model, loop.train, loop.tokenizer, "fp32")["loss"]
    state = loop.run()
    after = validate(loop.model, loop.train, loop.tokenizer, "fp32")["loss"]
    assert math.isclose(before, math.log(3), rel_tol=0.05)
    assert state.step == 48
    assert state.curve[-1]["loss"] < 0.8 * state.curve[0]["loss"]
    assert after < before


def test_the_curve_tells_every_step_once(tmp_path: Path, encoder: Path) -> None:
    state = make_loop(tmp_path, encoder, epochs=4, max_steps=23).run()
    assert [point["step"] for point in state.curve] == [10, 20, 23]
    assert [point["epoch"] for point in state.curve] == [10 / 6, 20 / 6, 23 / 6]
    assert state.samples == 23 * 16
    assert (state.window_rows, state.window_loss) == (0, 0.0)
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
    assert {"loss", "lr", "rate"} <= bars[-1].keys()


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
    assert state.best == validate(loop.model, loop.validation, loop.tokenizer, "fp32")


def gradients(loop: Loop, batches: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> list[torch.Tensor]:
    """What one step hands to the optimiser."""
    found: list[torch.Tensor] = []
    optimizer = build_optimizer(loop.model, loop.options.optimizer)

    def look(*_: object) -> None:
        found.extend(parameter.grad.clone() for parameter in loop.model.parameters() if parameter.grad is not None)

    optimizer.register_step_pre_hook(look)
    loop.step(batches, optimizer, TrainState())
    return found


@pytest.mark.parametrize("cut", [[16], [24], [5, 20]])
def test_accumulated_batches_are_one_batch(tmp_path: Path, encoder: Path, cut: list[int]) -> None:
    places = np.random.default_rng(0).permutation(96)[:32]
    whole, parts = (make_loop(tmp_path, encoder, dropout=0.0, max_gradient_norm=0.5) for _ in range(2))
    for loop in (whole, parts):
        loop.model.eval()  # the encoder has dropout of its own
    one, other = gradients(whole, [places]), gradients(parts, np.split(places, cut))
    assert len(one) == len(list(whole.model.parameters()))
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
    for examples in (loop.train, loop.validation):
        examples.tokens[examples.tokens == token] = 78
    loop.train.tokens[loop.train.starts[row]] = token
    with torch.no_grad():
        loop.model.get_parameter("encoder.embeddings.word_embeddings.weight")[token] = math.nan

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
    assert caught.value.where == "step 1, 30 validation rows"


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
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name


def test_a_finished_run_only_gives_its_best_weights(tmp_path: Path, encoder: Path) -> None:
    first = make_loop(tmp_path, encoder, epochs=2)
    state = first.run()
    again = make_loop(tmp_path, encoder, epochs=2)
    assert again.run() == state
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
