"""Checkpoints: one new directory a step, whole or absent, verified by digest when read. No pickle.

`step-00000450/` holds `PART.safetensors` for each part and `state.json`, written in this order:

    files beside their place → fsync each → rename the directory → fsync its parent → `state.json` → delete the old

Nothing is ever overwritten, and nothing is deleted before what replaces it is on the disk: a step that is saved
once more goes to `step-00000450.1`. Hidden names are what is being written or deleted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.files import sync_directory
from lnmt.training.fingerprints import differences
from lnmt.training.random_states import RandomStates
from lnmt.training.state import TrainState
from lnmt.training.state_files import (
    FORMAT,
    MANIFEST,
    Damaged,
    check_files,
    read_manifest,
    read_part,
    tensor_file,
    write_manifest,
    write_parts,
)
from lnmt.training.state_tree import pack, unpack

if TYPE_CHECKING:
    from lnmt.training.execution import Stateful

NAME = re.compile(r"step-(\d+)(?:\.(\d+))?")
RANDOM = "random"  # the part that is always there
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Checkpoints:
    """The checkpoints of one run in one directory: the newest ones, and the one with the best metric."""

    def __init__(
        self, directory: Path, fingerprint: Mapping[str, Any], *, keep: int, note: Callable[[str], None]
    ) -> None:
        """`fingerprint`: what must be the same for a run to go on (data, code, versions, threads), as JSON values.

        `keep`: how many of the newest stay; the best one stays beside them. `note` is told what a person should know.
        """
        self.directory = directory
        self.aside = directory.with_name(f"{directory.name}-set-aside")
        self._fingerprint = dict(fingerprint)
        self._keep = keep
        self._note = note

    def path(self, step: int) -> Path:
        """The directory of the checkpoint at `step`."""
        return self._latest().get(step, self.directory / f"step-{step:08d}")

    def save(self, state: TrainState, parts: Mapping[str, Stateful]) -> Path:
        """Write a checkpoint and return its directory; then drop those that are neither among the newest nor the best.

        Raises LnmtError where the disk is full or fails; the checkpoints before it stay.
        """
        states = {name: part.state_dict() for name, part in {**parts, RANDOM: RandomStates()}.items()}
        with self._clear_errors():
            _make_directory(self.directory)
            self._sweep()
            path = self._write(state, states)
        self._prune(path, state.best_step)
        return path

    def resume(self, parts: Mapping[str, Stateful], *, strict: bool = False) -> TrainState | None:
        """Bring the parts and all random states to the newest whole checkpoint; None where there is none.

        A damaged one, or one of another fingerprint, is set aside with a note that says why.
        Raises LnmtError where one does not fit the parts, and, if `strict`, where one has another fingerprint.
        """
        for path in self._sweep():
            self._note(f"checkpoint {path.name} has no {MANIFEST}: its writing was cut short; passed over")
        useless: dict[Path, str] = {}  # the newest first
        found = None
        for path in reversed(self._all()):
            try:
                manifest = self._read(path, strict=strict)
            except Damaged as error:
                useless[path] = str(error)
            else:
                found = self._load(path, manifest, parts)
                break
        self._set_aside(useless)
        return found

    def weights(self, step: int) -> dict[str, Tensor]:
        """The state of the part "model" at `step`. Raises LnmtError where it is not whole."""
        path, name = self.path(step), tensor_file("model")
        try:
            manifest = read_manifest(path)
            check_files(path, {name: manifest.get("files", {}).get(name)})
        except Damaged as error:
            raise LnmtError(
                f"the weights of step {step} cannot be read",
                where=path,
                value=error,
                fix="run the same command again: it goes on from an older checkpoint",
            ) from error
        weights: dict[str, Tensor] = read_part(path, manifest, "model")
        return weights

    def clear(self) -> None:
        """Delete them all: their run has come to its end, and its best weights are kept elsewhere."""
        for directory in (self.directory, self.aside):
            shutil.rmtree(directory, ignore_errors=True)

    def _write(self, state: TrainState, states: Mapping[str, Any]) -> Path:
        temporary = self._hidden(f"step-{state.step:08d}")
        target = self._free(state.step)
        temporary.mkdir()
        try:
            content = write_parts(temporary, states)
            temporary.rename(target)
            sync_directory(self.directory)
            described, _ = pack(asdict(state), "the run")
            write_manifest(target, {"fingerprint": self._fingerprint, "state": described, **content})
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (target / MANIFEST).exists():
                shutil.rmtree(target, ignore_errors=True)
            raise
        return target

    def _read(self, path: Path, *, strict: bool) -> dict[str, Any]:
        """The manifest of a checkpoint that this run can go on from. Raises Damaged where it cannot."""
        manifest = read_manifest(path)
        theirs = {**manifest.get("fingerprint", self._fingerprint), "format": manifest["format"]}
        different = differences(theirs, {**self._fingerprint, "format": FORMAT})
        if different and strict:
            raise LnmtError(
                "the checkpoint is of another run",
                where=path,
                value=", ".join(f"{name} {old}" for name, old, _ in different),
                allowed=", ".join(f"{name} {new}" for name, _, new in different),
                fix=f"bring these back to go on from it, or delete {self.directory} to start anew",
            )
        if different:
            changed = ", ".join(f"{name} {old} -> {new}" for name, old, new in different)
            raise Damaged(f"it is of another run: {changed}")
        check_files(path, manifest["files"])
        best = manifest["state"].get("best_step")
        if best and self.path(best) != path:
            try:
                check_files(self.path(best), read_manifest(self.path(best)).get("files", {}))
            except Damaged as error:
                raise Damaged(f"the best one, {self.path(best).name}, is damaged: {error}") from error
        return manifest

    def _load(self, path: Path, manifest: dict[str, Any], parts: Mapping[str, Stateful]) -> TrainState:
        wanted = {**parts, RANDOM: RandomStates()}
        if set(manifest["parts"]) != set(wanted):
            raise _unfit(path, "its parts are others", ", ".join(sorted(manifest["parts"])), ", ".join(sorted(wanted)))
        for name, part in wanted.items():
            state = read_part(path, manifest, name)
            try:
                part.load_state_dict(state)
            except Exception as error:  # whatever a model, an optimiser or a plugin says to a state that is not its own
                value = "\n".join(str(error).splitlines()[:4])
                raise _unfit(path, f"{name} refuses its state", value, f"a state of this run's {name}") from error
        return TrainState(**unpack(manifest["state"], {}))

    def _prune(self, newest: Path, best: int | None) -> None:
        """Delete what is no longer wanted: renamed first, so that half of it never looks like a checkpoint."""
        latest = self._latest()
        kept = {newest, latest.get(best or 0), *list(latest.values())[-self._keep :]}
        old = [path for path in self._all() if path not in kept]
        if not old:
            return
        hidden: list[Path] = []
        try:
            for path in old:
                hidden.append(path.rename(self._hidden(path.name)))
            sync_directory(self.directory)
        except OSError as error:
            self._note(f"old checkpoints in {self.directory} cannot be moved out of the way: {error}")
        self._delete(hidden)

    def _delete(self, paths: Iterable[Path]) -> None:
        """Where it fails the next sweep tries again: no reason to stop a run whose checkpoint is safe."""
        for path in paths:
            try:
                shutil.rmtree(path)
            except OSError as error:
                self._note(f"{path} cannot be deleted: {error}")

    def _sweep(self) -> list[Path]:
        """Delete what a killed run was writing or deleting; returns what had got its name, but no manifest."""
        cut = [path for path in self._named() if not (path / MANIFEST).is_file()]
        self._delete([*self.directory.glob(".step-*"), *cut])
        return cut

    def _set_aside(self, useless: dict[Path, str]) -> None:
        """Move them out of the way, the newest last; those that were set aside before go."""
        if not useless:
            return
        with self._clear_errors():
            shutil.rmtree(self.aside, ignore_errors=True)
            _make_directory(self.aside)
            for path in reversed(useless):
                path.rename(self.aside / path.name)
            for directory in (self.aside, self.directory):
                sync_directory(directory)
        for why in dict.fromkeys(useless.values()):
            names = ", ".join(path.name for path in useless if useless[path] == why)
            self._note(f"checkpoint {names} is passed over: {why}; set aside in {self.aside}")

    def _named(self) -> list[Path]:
        """What has the name of a checkpoint, the oldest first."""
        found = {path: NAME.fullmatch(path.name) for path in self.directory.glob("step-*")}
        order = {path: (int(match[1]), int(match[2] or 0)) for path, match in found.items() if match}
        return sorted(order, key=order.__getitem__)

    def _all(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        return [path for path in self._named() if (path / MANIFEST).is_file()]

    def _latest(self) -> dict[int, Path]:
        """The newest checkpoint of each step, in order of the steps."""
        return {int(path.name[5:].partition(".")[0]): path for path in self._all()}

    def _free(self, step: int) -> Path:
        """A name for the checkpoint at `step` that none has had."""
        plain = self.directory / f"step-{step:08d}"
        taken = [int(path.suffix[1:] or 0) for path in self._named() if path.stem == plain.name]
        return plain.with_name(f"{plain.name}.{max(taken) + 1}") if taken else plain

    def _hidden(self, name: str) -> Path:
        return self.directory / f".{name}.{uuid.uuid4().hex}"

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """What the disk says, as an LnmtError."""
        try:
            yield
        except OSError as error:
            free = None
            with suppress(OSError):
                free = f"{shutil.disk_usage(self.directory).free / 1e6:.1f} MB are free"
            full = error.errno in FULL
            raise LnmtError(
                f"cannot write a checkpoint: {os.strerror(error.errno or errno.EIO)}",
                where=self.directory,
                value=free if full else str(error),
                fix=f"{'free space on' if full else 'look after'} this disk, then run the same command again: "
                "it goes on from the checkpoint before, which is whole",
            ) from error


def _make_directory(directory: Path) -> None:
    """Make it and what is missing above it, each on the disk."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def _unfit(path: Path, why: str, value: str, allowed: str) -> LnmtError:
    return LnmtError(
        f"the checkpoint does not fit this run: {why}",
        where=path,
        value=value,
        allowed=allowed,
        fix=f"train the model that it was made of, or delete {path.parent} to start anew",
    )
