"""Real faults, counted: `python -m tests.faults [NAME ...] [--short]`.

Prints a table, writes reports/soak.json, and exits with 1 where anything but the promised happened.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.kit import Outcome

MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Fault:
    """Where it is, and how often it is tried."""

    module: str
    long: int | float
    short: int | float
    in_memory: bool = False  # what counts is the calls, not the disk


FAULTS = {
    "kills-in-saves": Fault("tests.faults.kills_in_saves", 500, 25),
    "full-disk": Fault("tests.faults.full_disk", 100, 5),
    "failing-calls": Fault("tests.faults.failing_calls", 1.0, 0.2, in_memory=True),  # share of the ways to fail
    "power-cuts": Fault("tests.faults.power_cut", 20, 2, in_memory=True),  # drawn images beside the worst one
    "killed-runs": Fault("tests.faults.killed_runs", 20, 2),
    "sigterm": Fault("tests.faults.sigterm", 5, 1),
    "killed-events": Fault("tests.faults.killed_events", 200, 12),
    "killed-searches": Fault("tests.faults.killed_search", 40, 3),
    "full-searches": Fault("tests.faults.full_optimize", 20, 1),
    "swaps": Fault("tests.faults.swaps", 200, 4),  # and a quarter as many spoilt candidates
    "overload": Fault("tests.faults.overload", 60, 4),  # seconds
    "poison": Fault("tests.faults.poison", 10_000, 300),
    "deadlines": Fault("tests.faults.deadlines", 1000, 100),  # and half as many disconnects
    "stores-away": Fault("tests.faults.stores_away", 5, 1),
    "drain": Fault("tests.faults.drain", 20, 2),  # instances told to end
    "killed-workers": Fault("tests.faults.killed_workers", 20, 2),
    "hostile-bodies": Fault("tests.faults.hostile_bodies", 20, 1),
    "random-paths": Fault("tests.faults.paths", 100_000, 2_000),
    "spoofed-callers": Fault("tests.faults.rate_spoof", 20_000, 500),
    "fuzz": Fault("tests.faults.fuzz", 10_000, 300),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FAULTS)}; all of them by default")
    parser.add_argument("--short", action="store_true", help="as often as the test suite does")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/soak.json"))
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(FAULTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
    prepare()
    reports = [attempt(name, options.short, options.seed) for name in options.names or FAULTS]
    from lnmt.files import write_json

    write_json(options.out, {"seed": options.seed, "machine": machine(), "faults": reports})
    show(reports)
    return 1 if any(report["failures"] for report in reports) else 0


def prepare() -> None:
    """One thread, before anything is imported that would start more: children are forked from here."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    from lnmt.telemetry import quiet

    quiet()
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # its thread


def attempt(name: str, short: bool, seed: int) -> dict[str, Any]:
    """One kind of fault, with a bar."""
    from lnmt.progress import Progress

    fault = FAULTS[name]
    number = fault.short if short else fault.long
    start = time.monotonic()
    place = MEMORY if fault.in_memory and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as directory, Progress().bar(name, unit="faults") as bar:
        module = importlib.import_module(fault.module)
        outcome: Outcome = module.run(number, Path(directory), seed, bar.advance)
    return {"name": name, **asdict(outcome), "seconds": round(time.monotonic() - start, 1)}


def machine() -> dict[str, Any]:
    """What the figures are of."""
    from lnmt.runtime.capabilities import capabilities

    found = capabilities()
    return {"hardware": found.hardware, "cpu": found.cpu, "libraries": dict(found.libraries)}


def show(reports: Sequence[dict[str, Any]]) -> None:
    """The reports as a table, and every failure."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 110))
    table = Table()
    for column in ("fault", "tried", "failures", "figures", "s"):
        table.add_column(column, justify="left" if column in ("fault", "figures") else "right")
    for report in reports:
        figures = report["skipped"] or "\n".join(f"{name}: {value}" for name, value in report["figures"].items())
        failures = "skipped" if report["skipped"] else str(len(report["failures"]))
        table.add_row(report["fault"], str(report["tried"]), failures, figures, f"{report['seconds']:.0f}")
    console.print(table)
    for report in reports:
        for text in report["failures"]:
            console.print(f"{report['name']}: {text}", style="red")


if __name__ == "__main__":
    sys.exit(main())
