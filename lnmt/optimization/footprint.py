"""The memory of a process that runs one bundle and nothing else: `python -m lnmt.optimization.footprint BUNDLE`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lnmt.errors import LnmtError

LIMIT_S = 120.0


def peak_memory_mb(bundle: Path, *, batch_size: int, threads: int | None) -> float:
    """The peak of a fresh process that loads `bundle` and runs one batch of full rows, in MB (10⁶ bytes).

    Raises LnmtError where it does not end well.
    """
    command = [sys.executable, "-m", __name__, json.dumps([str(bundle), batch_size, threads])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise LnmtError(f"its process did not answer within {LIMIT_S:.0f} s", where=bundle) from error
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), "it says nothing")
        raise LnmtError(f"its process ended with code {done.returncode}: {last}", where=bundle)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Load, run, print the peak."""
    import numpy as np

    from lnmt.bundles import Bundle
    from lnmt.runtime import ENGINES
    from lnmt.telemetry import quiet
    from lnmt.types import Batch

    quiet()

    place, batch_size, threads = json.loads(sys.argv[1])
    bundle = Bundle.open(Path(place))
    engine = ENGINES.get(bundle.manifest.engine)()
    engine.load(bundle, threads=threads, cache=None)
    ids = np.ones((batch_size, bundle.manifest.max_tokens), dtype=np.int64)
    engine.infer(Batch(ids, ids.copy()))
    print(json.dumps(round(_peak_bytes() / 1e6, 1)))


def _peak_bytes() -> int:
    """Of this process alone: Linux's ru_maxrss begins with what the parent had when it made it."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
