"""The short form of `make soak`'s killed-events, in a process of its own with one thread; and that it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.faults.test_faults import REPOSITORY, soak

# The spool file is away while its segment is made.
CARELESS = """
import sys, time
from pathlib import Path
from tests.faults.__main__ import prepare
prepare()
from lnmt.monitoring import compaction
from tests.faults import killed_events

move = compaction._Work._move

def careless(self, kind, path):
    data = path.read_bytes()
    path.unlink()
    time.sleep(0.03)
    path.write_bytes(data)
    move(self, kind, path)

compaction._Work._move = careless
print(*killed_events.run(12, Path(sys.argv[1]), 0, lambda: None).failures, sep="\\n")
"""


def test_no_acknowledged_event_is_lost_and_none_comes_twice(tmp_path: Path) -> None:
    report = soak("killed-events", tmp_path)
    figures = report["figures"]
    assert (report["tried"], figures["lost"], figures["twice"]) == (12, 0, 0)
    assert figures["events acknowledged"] > 100
    assert figures["segments"] > 3
    cut = {name: number for name, number in figures.items() if name.startswith("cut ")}
    assert sum(cut.values()) == 12
    assert cut.keys() != {"cut between passes"}, "a kill that never comes in the middle proves nothing"


def test_a_careless_compaction_is_found_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CARELESS, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "acknowledged events lost" in done.stdout
