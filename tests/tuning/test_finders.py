from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lnmt.errors import LnmtError
from lnmt.progress import Progress
from lnmt.training.execution import Execution
from lnmt.training.feed import longest_rows
from lnmt.training.prepare import prepare_model
from lnmt.tuning import batch_size
from lnmt.tuning.batch_size import find_batch_size, kept_bytes
from lnmt.tuning.learning_rate import RatePoint, draw, find_learning_rate, suggest
from tests.training.training_kit import train_params
from tests.tuning.tuning_kit import tiny_data

CPU = torch.device("cpu")
GIVEN: Any = {"precision": "fp32", "device": CPU, "progress": Progress(show=False)}

pytestmark = pytest.mark.usefixtures("one_thread")


def test_kept_bytes_grow_with_the_rows(tmp_path: Path) -> None:
    data, options = tiny_data(tmp_path), train_params()
    execution = Execution(prepare_model(options, data), options, precision="fp32", compiled=False, device=CPU)
    small, large = (kept_bytes(execution, longest_rows(data.train, rows, data.tokenizer)) for rows in (8, 32))
    assert 3.0 < large / small < 5.0


def test_batch_sizes_double_and_the_answer_fits(tmp_path: Path) -> None:
    found = find_batch_size(train_params(batch_size=64), tiny_data(tmp_path), **GIVEN)
    sizes = [trial.batch_size for trial in found.trials]
    assert sizes == [2**power for power in range(len(sizes))]
    assert found.largest == sizes[-1] <= 96
    assert found.fastest in sizes
    rates = {trial.batch_size: trial.samples_per_s for trial in found.trials}
    assert (rates[found.fastest] or 0) * batch_size.GAIN >= max(rate or 0 for rate in rates.values())


def test_a_size_that_would_fill_the_memory_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, options = tiny_data(tmp_path), train_params(batch_size=64)
    execution = Execution(prepare_model(options, data), options, precision="fp32", compiled=False, device=CPU)
    room = kept_bytes(execution, longest_rows(data.train, 12, data.tokenizer))
    monkeypatch.setattr(batch_size, "free_memory", lambda: room / batch_size.ROOM)
    found = find_batch_size(options, data, **GIVEN)
    assert (found.largest, found.trials[-1].batch_size, found.trials[-1].samples_per_s) == (8, 16, None)


def test_the_memory_that_is_free_heeds_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "CGROUP", tmp_path)
    whole = batch_size.free_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert batch_size.free_memory() == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text("5000\n")
    assert batch_size.free_memory() == 4000


def test_the_suggested_rate_learns_and_the_curve_is_drawn(tmp_path: Path) -> None:
    found = find_learning_rate(train_params(), tiny_data(tmp_path, 160), **GIVEN)
    assert 1e-5 < found.suggested < 0.3
    assert found.suggested < found.lowest_loss_at
    assert found.points[0].lr == pytest.approx(1e-7)
    draw(found, tmp_path / "rates.svg")
    assert "<svg" in (tmp_path / "rates.svg").read_text()


def test_the_steepest_fall_before_the_lowest_loss_is_suggested() -> None:
    losses = [1.0, 0.99, 0.95, 0.6, 0.55, 0.5, 0.9]
    points = [RatePoint(10.0**-place, loss) for place, loss in zip(range(7, 0, -1), losses, strict=True)]
    found = suggest(points)
    assert (found.suggested, found.lowest_loss_at) == (1e-4, 1e-2)


def test_where_nothing_helps_the_finder_says_so() -> None:
    with pytest.raises(LnmtError, match="the loss falls at no learning rate"):
        suggest([RatePoint(10.0**-place, float(place)) for place in range(3)])
