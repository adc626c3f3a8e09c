"""In processes of their own: this one must not die of what is tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
from pathlib import Path
from lnmt.optimization.build import Builder
from lnmt.optimization.candidate import Candidate
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from tests.tiny_bundle import tiny_bundle

work = Path(sys.argv[1])
builder = Builder(tiny_bundle(work / "bundle"), work, lambda: None, Progress(show=False))
bundle = builder.build(Candidate("openvino", "fp32")).bundle
predictors = [Predictor.open(bundle) for _ in range(2)]
for predictor in predictors:  # the first one first: its stack is the one that the thread had before the second
    predictor.predict(["a good film"])
    predictor.close()
del predictor, predictors
seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
print(len(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the fault is one of Linux")
def test_a_signal_after_engines_were_closed_is_handled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
