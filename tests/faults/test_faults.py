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
    assert report["failures"] == [], done.stderr
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


def test_killed_searches_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    report = soak("killed-searches", tmp_path)
    figures = report["figures"]
    assert (report["tried"], figures["measured again"]) == (3, 0)
    assert sum(number for name, number in figures.items() if name.startswith("cut within ")) == 3
    assert figures.get("cut within files", 0) + figures.get("cut within weights", 0) > 0


def test_a_full_disk_costs_a_search_nothing(tmp_path: Path) -> None:
    figures = soak("full-searches", tmp_path)["figures"]
    for name in ("clear errors", "outputs untouched", "went on once there was room"):
        assert figures[name] == 1
    assert min(figures["bytes needed, work"], figures["bytes needed, output"]) > 100_000


def test_switches_under_load_mix_nothing(tmp_path: Path) -> None:
    report = soak("swaps", tmp_path)
    figures = report["figures"]
    assert (report["tried"], figures["candidates refused"], figures["failed"]) == (8, 4, 0)
    assert (figures["of mixed versions"], figures["of another version than was live"]) == (0, 0)
    assert figures["answers"] == figures["requests"] > 100


def test_overload_is_refused_and_the_rest_answered(tmp_path: Path) -> None:
    figures = soak("overload", tmp_path)["figures"]
    assert figures["refused"] > 500
    assert figures["goodput, share of the capacity"] > 0.5


def test_poison_harms_nobody_beside_it(tmp_path: Path) -> None:
    figures = soak("poison", tmp_path)["figures"]
    assert [figures[f"poison, {kind}"] for kind in ("not finite", "raises", "wrong shape")] == [1, 1, 1]
    assert figures["innocent failures"] == 0
    assert figures["spoilt batches of several texts"] > 0, "poison that is always alone proves nothing"


def test_deadlines_and_disconnects_lose_no_place(tmp_path: Path) -> None:
    figures = soak("deadlines", tmp_path)["figures"]
    assert figures["answered"] + figures["deadline passed"] == 100
    assert figures["deadline passed"] > 0
    assert (figures["disconnects"], figures["texts that wait afterwards"]) == (50, 0)


def test_stores_that_go_away_stop_nothing(tmp_path: Path) -> None:
    figures = soak("stores-away", tmp_path)["figures"]
    if "Redis" not in figures:  # else it says why it was not tried
        assert figures["Redis: answered"] == figures["Redis: requests"]
    if "disk" not in figures:
        assert figures["disk: refused"] > 0
        assert figures["disk: answers without an event"] == 0


def test_a_service_that_ends_drops_nothing(tmp_path: Path) -> None:
    report = soak("drain", tmp_path)
    assert report["tried"] == 2


def test_a_killed_worker_costs_what_was_in_flight_on_it(tmp_path: Path) -> None:
    report = soak("killed-workers", tmp_path)
    figures = report["figures"]
    assert (report["tried"], figures["failed, others"], figures["answers without an event"]) == (2, 0, 0)
    assert figures["answers with an event"] > 100


def test_hostile_bodies_are_refused_and_take_no_memory(tmp_path: Path) -> None:
    figures = soak("hostile-bodies", tmp_path)["figures"]
    assert (figures["kinds"], figures["memory grown by, MB"] < 200) == (24, True)


def test_random_paths_make_no_series(tmp_path: Path) -> None:
    figures = soak("random-paths", tmp_path)["figures"]
    assert figures["series before"] == figures["series after"] > 100


def test_who_spoofs_gets_what_the_key_may_have(tmp_path: Path) -> None:
    figures = soak("spoofed-callers", tmp_path)["figures"]
    assert figures["allowed"] <= figures["limit"] * 1.01
    assert figures["refused"] > 0


def test_requests_drawn_from_the_document_get_what_it_says(tmp_path: Path) -> None:
    report = soak("fuzz", tmp_path)
    assert report["tried"] >= 300
    assert (report["figures"]["operations"], report["figures"]["operations that answered 200"]) == (21, 20)


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
