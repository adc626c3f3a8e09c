"""Ten million rows in bounded memory: time and peak memory of ingest, validate and process, each a process of its own.

    python -m benchmarks.data [--rows 1000000 10000000] [--out reports/bench-data.json]

Half of the rows come from Parquet, half from CSV; 1 % are bad, 5 % are duplicates. Exits 1 where a claim fails: peak
memory of no stage grows by 200 MB from the smallest to the largest table, and the largest takes at most 30 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

STAGES = ("ingest", "validate", "process")
MAX_GROWTH_MB = 200
MAX_MINUTES = 30
BATCH_ROWS = 100_000
WORDS = (
    *("the", "a", "of", "and", "this", "that", "film", "plot", "actor", "scene", "story", "music", "camera", "humour"),
    *("was", "were", "is", "felt", "seemed", "sounded", "very", "quite", "rather", "hardly", "never", "always"),
    *("good", "great", "awful", "dull", "bright", "slow", "funny", "sad", "moving", "boring", "clever", "weak"),
    *("don't", "can't", "café", "naïve", "10", "—", "!", ",", "“well”", "&amp;"),
)
# The peak is read from the process's own address space: ru_maxrss would count what the parent held when it forked.
CHILD = """
import resource, sys
from pathlib import Path
from lnmt.settings import Settings
from lnmt.stages import run_stage
run_stage(sys.argv[1], Settings(project=Path(sys.argv[2])))
status = Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
print(peak / 1024)
"""


@dataclass(frozen=True)
class Measured:
    """One stage over one table."""

    rows: int
    stage: str
    seconds: float
    peak_mb: float


def batches(rows: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Synthetic labelled sentences of 60 characters or so."""
    random = np.random.default_rng(seed)
    words = pa.array(WORDS)
    for start in range(0, rows, BATCH_ROWS):
        number = min(BATCH_ROWS, rows - start)
        columns = [
            words.take(pa.array(random.integers(0, len(WORDS), number))) for _ in range(int(random.integers(8, 16)))
        ]
        text = pc.binary_join_element_wise(*columns, " ")
        again = random.random(number) < 0.05
        text = text.take(pa.array(np.where(again, random.integers(0, number, number), np.arange(number))))
        labels = np.array(["negative", "neutral", "positive"])[random.integers(0, 3, number)].astype(object)
        labels[random.random(number) < 0.005] = "mixed"
        text = pc.if_else(pa.array(random.random(number) < 0.005), "!!!", text)
        domains = np.array(["product", "film", "editorial", "tweet"])[random.integers(0, 4, number)]
        yield pa.RecordBatch.from_arrays(
            [text, pa.array(labels, pa.string()), pa.array(domains, pa.string())], names=["text", "label", "domain"]
        )


def make_project(root: Path, rows: int) -> None:
    """A project of one Parquet and one CSV source."""
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("domain", pa.string())])
    (root / "data" / "incoming").mkdir(parents=True)
    with pq.ParquetWriter(root / "rows.parquet", schema) as parquet:
        for batch in batches(rows // 2, seed=1):
            parquet.write_batch(batch)
    with pyarrow.csv.CSVWriter(root / "rows.csv", schema) as csv:
        for batch in batches(rows - rows // 2, seed=2):
            csv.write_batch(batch)
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    source: dict[str, object] = {
        "kind": "files",
        "base": None,
        "digest": None,
        "archive": None,
        "encoding": "utf-8",
        "bins": None,
    }
    source |= {"csv": None, "columns": {"text": "text", "label": "label", "id": None}}
    raw["ingest"] |= {
        "sources": [
            {**source, "format": ending, "files": [{"path": f"rows.{ending}", "set": {}}]}
            for ending in ("parquet", "csv")
        ],
        "slices": ["domain"],
        "limit": None,
    }
    raw["validate"] |= {"labels": ["negative", "neutral", "positive"]}
    raw["process"] |= {"holdout": {"domain": ["tweet"]}}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")


def measure(root: Path, rows: int) -> Iterator[Measured]:
    """Run the stages one after the other."""
    for stage in STAGES:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, stage, str(root)], stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(f"{stage} failed on {rows:,} rows")
        yield Measured(rows, stage, round(seconds, 2), round(float(done.stdout.split()[-1]), 1))


def main() -> int:
    """Measure, print a table, write JSON."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--out", type=Path, default=Path("reports/bench-data.json"))
    options = parser.parse_args()

    measured: list[Measured] = []
    for rows in sorted(options.rows):
        with tempfile.TemporaryDirectory(prefix="lnmt-bench-") as directory:
            make_project(Path(directory), rows)
            for one in measure(Path(directory), rows):
                measured.append(one)
                print(f"{one.rows:,} rows · {one.stage}: {one.seconds} s, {one.peak_mb} MB", file=sys.stderr)

    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for heading in ("rows", "stage", "seconds", "rows/s", "peak RSS, MB"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for one in measured:
        table.add_row(
            f"{one.rows:,}", one.stage, f"{one.seconds:.1f}", f"{one.rows / one.seconds:,.0f}", f"{one.peak_mb:.0f}"
        )
    Console().print(table)

    smallest, largest = min(options.rows), max(options.rows)
    peaks = {(one.rows, one.stage): one.peak_mb for one in measured}
    growth = {stage: round(peaks[largest, stage] - peaks[smallest, stage], 1) for stage in STAGES}
    minutes = sum(one.seconds for one in measured if one.rows == largest) / 60
    passed = max(growth.values()) < MAX_GROWTH_MB and minutes <= MAX_MINUTES
    print(f"peak RSS, {smallest:,} → {largest:,} rows: {growth} MB (allowed: less than {MAX_GROWTH_MB})")
    print(f"{largest:,} rows took {minutes:.1f} min (allowed: {MAX_MINUTES})")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"cores": os.cpu_count(), "measured": [asdict(one) for one in measured], "growth_mb": growth}
    options.out.write_text(json.dumps({**result, "minutes": round(minutes, 2), "passed": passed}, indent=2) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
