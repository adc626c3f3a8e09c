"""Checkpoints: one new directory a step, whole or absent, verified by digest when read. No pickle.

`step-00000450/`: `model.safetensors`, `optimizer.safetensors` (state and generator), `state.json`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lnmt.files import clear_disk_errors, file_digests, new_directory, read_json, write_json
from lnmt.models.tensors import write_tensors

STATE = "state.json"


@dataclass
class TrainState:
    """Where a run stands, as JSON values. `step` counts optimiser steps and tells epoch and place in it."""

    step: int = 0
    samples: int = 0
    best_step: int | None = None
    best: dict[str, float] | None = None  # validation metrics at best_step
    stale: int = 0  # evaluations since then
    stopped: bool = False  # patience ran out
    window_loss: float = 0.0  # summed over the rows since the last line of the curve
    window_rows: int = 0
    window_seconds: float = 0.0
    seconds: float = 0.0  # of training, over all interrupted parts
    curve: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run in one directory: the newest, and the one with the best metric."""

    def __init__(self, directory: Path, fingerprint: dict[str, Any]) -> None:
        """`fingerprint`: what must be the same for a run to go on (code, versions, threads)."""
        self.directory = directory
        self.fingerprint = fingerprint

    def path(self, step: int) -> Path:
        """The directory of the checkpoint at `step`."""
        return self.directory / f"step-{step:08d}"

    def save(self, state: TrainState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, then drop those that are neither it nor the best.

        Raises LnmtError where the disk is full; the checkpoints before it stay.
        """
        with clear_disk_errors(self.directory), new_directory(self.path(state.step)) as directory:
            write_tensors(directory / "model.safetensors", model.state_dict())
            tensors, plain = _split(optimizer.state_dict())
            write_tensors(directory / "optimizer.safetensors", {**tensors, "generator": torch.get_rng_state()})
            document = {
                "fingerprint": self.fingerprint,
                "state": asdict(state),
                "optimizer": plain,
                "files": file_digests(directory),
            }
            write_json(directory / STATE, document)
        for path in self._all():
            if path not in (self.path(state.step), self.path(state.best_step or 0)):
                shutil.rmtree(path)

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState | None:
        """Bring model, optimiser and torch's generator to the newest whole checkpoint of this fingerprint.

        None where there is none; what cannot be continued is deleted.
        """
        for path in self.directory.glob(".step-*"):  # of a run that was killed while it wrote or deleted
            shutil.rmtree(path)
        for path in reversed(self._all()):
            document = self._read(path)
            if document is None or ((best := document["state"]["best_step"]) and self._read(self.path(best)) is None):
                shutil.rmtree(path)
                continue
            model.load_state_dict(load_file(path / "model.safetensors"))
            tensors = load_file(path / "optimizer.safetensors")
            torch.set_rng_state(tensors.pop("generator"))
            optimizer.load_state_dict(_join(tensors, document["optimizer"]))
            return TrainState(**document["state"])
        return None

    def weights(self, step: int) -> dict[str, Tensor]:
        """The model's weights at `step`."""
        weights: dict[str, Tensor] = load_file(self.path(step) / "model.safetensors")
        return weights

    def clear(self) -> None:
        """Delete them all: their run has come to its end, and its best weights are kept elsewhere."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(self.directory.glob("step-*"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The JSON of a checkpoint; None where it is damaged or of another fingerprint."""
        try:
            document: dict[str, Any] = read_json(path / STATE)
        except (OSError, ValueError):
            return None
        found = file_digests(path)
        found.pop(STATE)
        whole = document.get("files") == found and document.get("fingerprint") == self.fingerprint
        return document if whole else None


def _split(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by `parameter/name`, and the rest as JSON values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{parameter}/{name}"] = value
    return tensors, {"state": plain, "groups": state["param_groups"]}


def _join(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain["state"]}.items():
        parameter, _, name = key.partition("/")
        state.setdefault(int(parameter), {})[name] = value
    return {"state": state, "param_groups": plain["groups"]}
