from __future__ import annotations

import json
import random
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lnmt.errors import LnmtError
from lnmt.files import directory_digest
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.execution import Stateful
from lnmt.training.state import TrainState


class Run:
    """A small model some steps into its training."""

    def __init__(self, seed: int = 0, width: int = 8) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=0.1)
        self.features = torch.ones(4, width)
        self.state = TrainState()

    @property
    def parts(self) -> dict[str, Stateful]:
        return {"model": self.model, "optimizer": self.optimizer}

    def step(self) -> float:
        self.optimizer.param_groups[0]["lr"] = 1e-2 / (self.state.step + 1)
        loss = self.model(self.features).square().mean()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        return float(loss.detach())


class Kept:
    """A part that holds whatever it is given."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Notes(list[str]):
    """What a person was told."""


def checkpoints(directory: Path, notes: Notes | None = None, *, keep: int = 1, **fingerprint: Any) -> Checkpoints:
    note = (Notes() if notes is None else notes).append
    return Checkpoints(directory / "checkpoints", fingerprint, keep=keep, note=note)


def saved(checkpoints: Checkpoints, steps: int = 1, width: int = 8) -> Run:
    run = Run(width=width)
    for _ in range(steps):
        run.step()
    checkpoints.save(run.state, run.parts)
    return run


def resume(checkpoints: Checkpoints) -> tuple[Run, TrainState | None]:
    run = Run(seed=99)
    found = checkpoints.resume(run.parts)
    run.state = found or run.state
    return run, found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def two(directory: Path) -> Run:
    """Checkpoints at steps 1, which is the best, and 2."""
    run = saved(checkpoints(directory), steps=1)
    run.state.best_step = 1
    run.step()
    checkpoints(directory).save(run.state, run.parts)
    assert names(directory) == ["step-00000001", "step-00000002"]
    return run


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
    path = checkpoints(tmp_path).save(run.state, run.parts)
    expected = [run.step() for _ in range(4)]

    other, found = resume(checkpoints(tmp_path))

    assert path == checkpoints(tmp_path).path(3)
    assert found is not None
    assert (found.step, found.curve) == (3, [{"step": 3, "loss": 0.1 + 0.2}])
    assert [other.step() for _ in range(4)] == expected, "weights, moments and dropout's generator"
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True))


def test_every_generator_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float]:
        return float(torch.rand(())), random.gauss(), float(np.random.normal()), random.random()

    draw()  # both gauss() and normal() now hold a second value for the next call
    run = saved(checkpoints(tmp_path))
    expected = [draw() for _ in range(3)]
    checkpoints(tmp_path).resume(run.parts)
    assert [draw() for _ in range(3)] == expected


def test_the_state_of_a_run_keeps_what_is_no_number(tmp_path: Path) -> None:
    run = Run()
    run.state.curve = [{"loss": float("nan"), "lr": float("inf")}]
    run.state.left_out = [{"step": 3, "loss": float("-inf"), "ids": ["a", "ü"]}]
    checkpoints(tmp_path).save(run.state, run.parts)
    found = checkpoints(tmp_path).resume(run.parts)
    assert repr(found) == repr(run.state)


def test_nothing_kept_is_nothing_resumed(tmp_path: Path) -> None:
    run, found = resume(checkpoints(tmp_path))
    assert found is None
    assert run.state.step == 0
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    two(tmp_path)
    path = tmp_path / "checkpoints/step-00000002" / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x01
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    notes = Notes()

    _, found = resume(checkpoints(tmp_path, notes))

    assert found is not None
    assert found.step == 1
    assert names(tmp_path) == ["step-00000001"]
    (note,) = notes
    assert note.startswith("checkpoint step-00000002 ")
    assert "passed over" in note
    assert name in note
    unfinished = (name, damage) == ("state.json", "delete")
    aside = tmp_path / "checkpoints-set-aside/step-00000002"
    assert aside.is_dir() is not unfinished, "a checkpoint that was never whole is worth nothing"
    if damage == "flip" and name != "state.json":
        promised = json.loads((aside / "state.json").read_text())["files"][name]
        assert promised in note


def test_a_changed_number_in_the_manifest_is_damage(tmp_path: Path) -> None:
    two(tmp_path)
    path = tmp_path / "checkpoints/step-00000002/state.json"
    path.write_text(path.read_text().replace('"samples": 0', '"samples": 1'))
    notes = Notes()
    assert resume(checkpoints(tmp_path, notes))[1] is not None
    assert notes[0].startswith("checkpoint step-00000002 is passed over: state.json is sha256:")


def test_one_without_its_best_is_not_gone_on_from(tmp_path: Path) -> None:
    two(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/step-00000001")
    notes = Notes()
    assert resume(checkpoints(tmp_path, notes))[1] is None
    assert "the best one, step-00000001, is damaged" in notes[0]


def test_another_fingerprint_is_set_aside_and_told(tmp_path: Path) -> None:
    a, b = ({"train": "sha256:" + letter * 64, "test": "same"} for letter in "ab")
    first: dict[str, Any] = {"torch": "2.12", "threads": 2, "data": a, "labels": ("x", "y")}
    saved(checkpoints(tmp_path, **first))
    before = directory_digest(tmp_path / "checkpoints")
    second: dict[str, Any] = {"torch": "2.13", "data": b, "labels": ["x", "y"], "new": [1]}
    notes = Notes()

    assert resume(checkpoints(tmp_path, notes, **second))[1] is None

    assert names(tmp_path) == []
    aside = tmp_path / "checkpoints-set-aside"
    assert notes == [
        "checkpoint step-00000001 is passed over: it is of another run: data.train sha256:aaaaaaaaaaaa -> "
        f"sha256:bbbbbbbbbbbb, new absent -> [1], threads 2 -> absent, torch 2.12 -> 2.13; set aside in {aside}"
    ]
    assert directory_digest(aside) == before, "whoever brings the old versions back can go on from it"


def test_another_fingerprint_is_an_error_where_strict(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path, torch="2.12", threads=2))
    with pytest.raises(LnmtError, match="the checkpoint is of another run") as caught:
        checkpoints(tmp_path, torch="2.13", threads=2).resume(run.parts, strict=True)
    assert (caught.value.where, caught.value.value, caught.value.allowed) == (
        tmp_path / "checkpoints/step-00000001",
        "torch 2.12",
        "torch 2.13",
    )
    assert "bring these back" in str(caught.value.fix)
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_format_is_another_run(tmp_path: Path, version: int | None) -> None:
    saved(checkpoints(tmp_path, torch="2.13"))
    path = tmp_path / "checkpoints/step-00000001/state.json"
    document = json.loads(path.read_text())
    document["format"] = version
    path.write_text(json.dumps(document))
    notes = Notes()
    assert resume(checkpoints(tmp_path, notes, torch="2.13"))[1] is None
    assert f"it is of another run: format {'null' if version is None else version} -> 1;" in notes[0]


def test_setting_aside_keeps_those_of_the_last_time(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        saved(checkpoints(tmp_path, version=version), steps=version)
        assert resume(checkpoints(tmp_path, version=version + 1))[1] is None
    assert [path.name for path in (tmp_path / "checkpoints-set-aside").iterdir()] == ["step-00000003"]


def test_another_model_gets_a_clear_error(tmp_path: Path) -> None:
    saved(checkpoints(tmp_path), width=16)
    with pytest.raises(LnmtError, match="does not fit this run: model refuses its state") as caught:
        resume(checkpoints(tmp_path))
    assert "size mismatch" in str(caught.value.value)
    assert caught.value.where == tmp_path / "checkpoints/step-00000001"
    assert names(tmp_path) == ["step-00000001"]


def test_other_parts_get_a_clear_error(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path))
    with pytest.raises(LnmtError, match="its parts are others") as caught:
        checkpoints(tmp_path).resume({**run.parts, "scaler": Kept({})})
    assert (caught.value.value, caught.value.allowed) == (
        "model, optimizer, random",
        "model, optimizer, random, scaler",
    )


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    run = Run()
    for best in (1, 1, 3, 3, 3):
        run.step()
        run.state.best_step = best
        checkpoints(tmp_path).save(run.state, run.parts)
    assert names(tmp_path) == ["step-00000003", "step-00000005"]
    assert checkpoints(tmp_path).weights(3).keys() == run.model.state_dict().keys()


def test_as_many_are_kept_as_was_said(tmp_path: Path) -> None:
    run = Run()
    for _ in range(6):
        run.step()
        run.state.best_step = 2 if run.state.step > 1 else None
        checkpoints(tmp_path, keep=3).save(run.state, run.parts)
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005", "step-00000006"]


def test_the_same_step_again_gets_a_new_place(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path), steps=2)
    run.state.best_step = 2
    for generation in (1, 2):
        run.state.samples = generation
        assert checkpoints(tmp_path).save(run.state, run.parts).name == f"step-00000002.{generation}"
        assert names(tmp_path) == [f"step-00000002.{generation}"]
    found = resume(checkpoints(tmp_path))[1]
    assert found is not None
    assert found.samples == 2
    assert checkpoints(tmp_path).weights(2).keys() == run.model.state_dict().keys()


def test_weights_are_verified(tmp_path: Path) -> None:
    two(tmp_path)
    weights = checkpoints(tmp_path).weights(1)
    path = tmp_path / "checkpoints/step-00000001/model.safetensors"
    assert {name: tensor.tolist() for name, tensor in load_file(path).items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(LnmtError, match="the weights of step 1 cannot be read") as caught:
        checkpoints(tmp_path).weights(1)
    assert "model.safetensors is sha256:" in str(caught.value.value)
    with pytest.raises(LnmtError, match="the weights of step 7 cannot be read"):
        checkpoints(tmp_path).weights(7)


def test_what_a_killed_run_half_wrote_is_cleared(tmp_path: Path) -> None:
    saved(checkpoints(tmp_path))
    (tmp_path / "checkpoints/.step-00000002.0123").mkdir()
    (tmp_path / "checkpoints/step-00000003").mkdir()
    notes = Notes()
    assert resume(checkpoints(tmp_path, notes))[1] is not None
    assert names(tmp_path) == ["step-00000001"]
    assert notes == ["checkpoint step-00000003 has no state.json: its writing was cut short; passed over"]


def test_clear_leaves_nothing(tmp_path: Path) -> None:
    saved(checkpoints(tmp_path, version=1))
    resume(checkpoints(tmp_path, version=2))
    saved(checkpoints(tmp_path, version=2))
    checkpoints(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [50, 20_000])  # bytes: nothing fits, or the weights (16.9 kB) and not the moments
def test_disk_full_keeps_the_one_before(tmp_path: Path, limit: int) -> None:
    run = saved(checkpoints(tmp_path), width=64)
    before = directory_digest(tmp_path / "checkpoints")
    run.step()

    with largest_file(limit), pytest.raises(LnmtError, match="cannot write a checkpoint: File too large") as caught:
        checkpoints(tmp_path).save(run.state, run.parts)

    assert (caught.value.where, caught.value.exit_code) == (tmp_path / "checkpoints", 1)
    assert "free space" in str(caught.value.fix)
    assert names(tmp_path) == ["step-00000001"]
    assert directory_digest(tmp_path / "checkpoints") == before


def test_a_state_that_cannot_be_held_says_where(tmp_path: Path) -> None:
    run = saved(checkpoints(tmp_path))
    with pytest.raises(LnmtError, match="a checkpoint cannot hold a set") as caught:
        checkpoints(tmp_path).save(TrainState(step=2), {**run.parts, "callback-mine": Kept({"seen": [{1, 2}]})})
    assert caught.value.where == "state of callback-mine: seen/0"
    assert names(tmp_path) == ["step-00000001"]
