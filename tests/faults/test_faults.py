"""The short forms of `make soak`, each in a process of its own with one thread; and that they can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lnmt.files import read_json
from tests.faults.__main__ import MEMORY

REPOSITORY = Path(__file__).parents[2]


def soak(name: str, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults", name, "--short", "--out", str(out / "soak.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (out / "soak.json").exists(), done.stderr
    (report,) = read_json(out / "soak.json")["faults"]
    assert report["failures"] == []
    assert done.returncode == 0
    if report["skipped"]:
        pytest.skip(report["skipped"])
    found: dict[str, Any] = report
    return found


def test_kills_during_saves_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    report = soak("kills-in-saves", tmp_path)
    figures = report["figures"]
    assert (report["tried"], figures["resumable"], figures["corrupt chosen"]) == (25, 25, 0)
    assert sum(number for name, number in figures.items() if name.startswith("cut while ")) == 25
    assert figures["cut while writing"] > 0, "a kill that never comes in the middle proves nothing"


def test_a_full_disk_costs_nothing_but_the_save(tmp_path: Path) -> None:
    assert soak("full-disk", tmp_path)["figures"] == {"clear errors": 5, "intact": 5, "saved once there was room": 5}


def test_no_failing_call_leaves_an_unusable_state(tmp_path: Path) -> None:
    report = soak("failing-calls", tmp_path)
    calls = [number for name, number in report["figures"].items() if name.startswith("calls of ")]
    assert (len(calls), report["figures"]["unusable states"]) == (4, 0)
    assert report["tried"] == sum(calls), "each call fails once"


def test_a_power_cut_loses_no_save_that_had_returned(tmp_path: Path) -> None:
    report = soak("power-cuts", tmp_path)
    assert report["tried"] > 300
    assert report["figures"] == {"unusable states": 0, "saves lost that had returned": 0}


def test_killed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    figures = soak("killed-runs", tmp_path)["figures"]
    assert (figures["kills, 0 workers"], figures["kills, 2 workers"]) == (2, 2)
    assert figures["other weights, losses or rows"] == 0


def test_sigterm_leaves_a_checkpoint_in_time(tmp_path: Path) -> None:
    report = soak("sigterm", tmp_path)
    assert report["tried"] == 3
    assert report["figures"]["slowest, s"] < 15


CARELESS = """
import shutil, sys
from pathlib import Path
from tests.faults.__main__ import prepare
prepare()
from lnmt.training.state_files import write_manifest, write_parts
from lnmt.training.state_tree import pack
from lnmt.training.checkpoint import Checkpoints
from dataclasses import asdict
from tests.faults import failing_calls, kills_in_saves, kit, power_cut

class Careless(Checkpoints):
    def _write(self, state, states):  # in place, and the old ones first
        for path in self._named():
            shutil.rmtree(path)
        target = self._free(state.step)
        target.mkdir()
        content = write_parts(target, states)
        described, _ = pack(asdict(state), "the run")
        write_manifest(target, {"fingerprint": self._fingerprint, "state": described, **content})
        return target

def opened(directory, *, keep=2, notes=None):
    return Careless(directory, kit.FINGERPRINT, keep=keep, note=([] if notes is None else notes).append)

kills_in_saves.open_checkpoints = opened
outcomes = [
    failing_calls.run(0.2, Path(sys.argv[1]) / "calls", 0, lambda: None, opened),
    kills_in_saves.run(5, Path(sys.argv[1]) / "kills", 0, lambda: None),
    power_cut.run(0, Path(sys.argv[1]) / "cuts", 0, lambda: None, opened),
]
print(*(len(outcome.failures) for outcome in outcomes))
"""


def test_careless_checkpoints_are_found_out() -> None:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        command = [sys.executable, "-c", CARELESS, directory]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls, kills, cuts = map(int, done.stdout.split())
    assert calls > 20
    assert kills > 0
    assert cuts > 20
