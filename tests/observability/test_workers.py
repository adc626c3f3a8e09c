"""A service whose workers end again and again: its figures stay whole, and its files few."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from lnmt.observability.workers import settled, worker_pids

WORKER = """
import os
from lnmt.observability.metrics import Metrics
metrics = Metrics()
metrics.observe_request("/predict", "POST", 200, 0.003)
metrics.feedback.labels("m").inc(2)
os.kill(os.getpid(), 9)
"""


def totals(directory: Path) -> dict[str, float]:
    """The counters of all, ended or not."""
    found: dict[str, float] = {}
    for path in directory.glob("counter_*.db"):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            found[key] = found.get(key, 0.0) + value
    return found


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A directory that three killed workers left."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(3):
        subprocess.run([sys.executable, "-c", WORKER], env=environment, check=False)
    return tmp_path


def test_those_that_ended_are_one(ended: Path) -> None:
    before = totals(ended)
    assert len(list(ended.glob("*.db"))) > 6
    for _ in range(2):
        with settled(ended):
            assert {path.name for path in ended.iterdir()} == {"counter_ended.db", "histogram_ended.db", "lock"}
            assert totals(ended) == before
    assert sorted(before.values())[-2:] == [3.0, 6.0]


def test_scrapes_at_once_count_nobody_twice(ended: Path) -> None:
    before = totals(ended)

    def scrape(_: int) -> dict[str, float]:
        with settled(ended):
            return totals(ended)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(scrape, range(8))) == [before] * 8


def test_what_a_killed_scrape_left_stands_in_nobodys_way(ended: Path) -> None:
    before = totals(ended)
    (ended / "counter_ended.new").write_bytes(b"half")
    (ended / "counter_4000000.gone").write_bytes(b"half")
    with settled(ended):
        assert totals(ended) == before


def test_the_living_are_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / f"counter_{os.getpid()}.db"
    MmapedDict(str(own)).close()  # type: ignore[no-untyped-call]
    with settled(tmp_path):
        assert own.exists()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert worker_pids() == [os.getpid()]
