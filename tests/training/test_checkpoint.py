from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from lnmt.errors import LnmtError
from lnmt.files import directory_digest
from lnmt.params import Plugin
from lnmt.training.checkpoint import Checkpoints, TrainState
from lnmt.training.optimizers import build_optimizer, set_rate

OPTIONS = Plugin.model_validate({"name": "adamw", "lr": 1e-2, "weight_decay": 0.1})


class Run:
    """A small model some steps into its training."""

    def __init__(self, seed: int = 0, width: int = 8) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.optimizer = build_optimizer(self.model, OPTIONS)
        self.features = torch.ones(4, width)
        self.state = TrainState()

    def step(self) -> float:
        set_rate(self.optimizer, 1 / (self.state.step + 1))
        loss = self.model(self.features).square().mean()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        return float(loss.detach())


def checkpoints(directory: Path, **fingerprint: int) -> Checkpoints:
    return Checkpoints(directory / "checkpoints", dict(fingerprint))


def saved(checkpoints: Checkpoints, steps: int = 1, width: int = 8) -> Run:
    run = Run(width=width)
    for _ in range(steps):
        run.step()
    checkpoints.save(run.state, run.model, run.optimizer)
    return run


def resume(checkpoints: Checkpoints) -> tuple[Run, TrainState | None]:
    run = Run(seed=99)
    found = checkpoints.resume(run.model, run.optimizer)
    run.state = found or run.state
    return run, found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes in a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path), steps=3)
    run.state.curve.append({"step": 3, "loss": 0.1 + 0.2})
    checkpoints(tmp_path).save(run.state, run.model, run.optimizer)
    expected = [run.step() for _ in range(4)]

    other, found = resume(checkpoints(tmp_path))

    assert found is not None
    assert (found.step, found.curve) == (3, [{"step": 3, "loss": 0.1 + 0.2}])
    assert [other.step() for _ in range(4)] == expected, "weights, moments and dropout's generator"
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True))


def test_nothing_kept_is_nothing_resumed(tmp_path: Path) -> None:
    run, found = resume(checkpoints(tmp_path))
    assert found is None
    assert run.state.step == 0


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    run = saved(checkpoints(tmp_path), steps=1)
    run.state.best_step = 1
    run.step()
    checkpoints(tmp_path).save(run.state, run.model, run.optimizer)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    path = tmp_path / "checkpoints/step-00000002" / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)

    _, found = resume(checkpoints(tmp_path))

    assert found is not None
    assert found.step == 1
    assert names(tmp_path) == ["step-00000001"]


def test_one_without_its_best_is_not_gone_on_from(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path), steps=1)
    run.state.best_step = 1
    run.step()
    checkpoints(tmp_path).save(run.state, run.model, run.optimizer)
    shutil.rmtree(tmp_path / "checkpoints/step-00000001")
    assert resume(checkpoints(tmp_path))[1] is None


def test_another_fingerprint_starts_anew(tmp_path: Path) -> None:
    saved(checkpoints(tmp_path, threads=2))
    assert resume(checkpoints(tmp_path, threads=1))[1] is None
    assert names(tmp_path) == []


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    run = Run()
    for best in (1, 1, 3, 3, 3):
        run.step()
        run.state.best_step = best
        checkpoints(tmp_path).save(run.state, run.model, run.optimizer)
    assert names(tmp_path) == ["step-00000003", "step-00000005"]
    assert checkpoints(tmp_path).weights(3).keys() == run.model.state_dict().keys()


def test_what_a_killed_run_half_wrote_is_cleared(tmp_path: Path) -> None:
    saved(checkpoints(tmp_path))
    (tmp_path / "checkpoints/.step-00000002.0123").mkdir()
    assert resume(checkpoints(tmp_path))[1] is not None
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("limit", [50, 20_000])  # bytes: nothing fits, or the weights (16.9 kB) and not the moments
def test_disk_full_keeps_the_one_before(tmp_path: Path, limit: int) -> None:
    run = saved(checkpoints(tmp_path), width=64)
    before = directory_digest(tmp_path / "checkpoints")
    run.step()

    with largest_file(limit), pytest.raises(LnmtError, match="cannot write: File too large") as caught:
        checkpoints(tmp_path).save(run.state, run.model, run.optimizer)

    assert (caught.value.where, caught.value.exit_code) == (tmp_path / "checkpoints", 1)
    assert "free space" in str(caught.value.fix)
    assert names(tmp_path) == ["step-00000001"]
    assert directory_digest(tmp_path / "checkpoints") == before
