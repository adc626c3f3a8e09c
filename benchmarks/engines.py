"""Every engine beside every other in one run, at the shapes of LNMT's specification: `python -m benchmarks.engines`.

BERT-Base, BERT-Large and GPT-2 with drawn weights (time does not depend on them), full rows of 64 and 128 tokens, one
and 16 rows a call (8 for BERT-Large); GPT-2 reads a prompt and gives every token's logits, in every engine alike. Then
the demo's classifier on the demo's texts, padded as they come. Engines: PyTorch eager, compiled and as TorchScript,
ONNX Runtime and OpenVINO as they come (no settings), and LNMT's candidates of them, quantised ones too. Calls run in
turns (`lnmt.optimization.latency`), so that a busy moment disturbs all; intervals are of 95 %.

Beside them stands the best rate of plain matrix products on this machine, at the model's shapes: what share of it an
engine reaches, and the least time that a call can take here at all. LNMT's best engine is the fastest of its
candidates; the goals of the specification are told with what is missing, and whether this machine could reach them.

Writes reports/bench-engines.json. Exits 1 where a goal is missed that is within the machine's reach and no stretch.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_bench.contenders import Workbench, list_candidates, open_contenders
from benchmarks.engine_bench.goals import LONG, SHORT, judge
from benchmarks.engine_bench.measure import SHORT_CALLS, Budget, Cell, measure_cell
from benchmarks.engine_bench.models import MODELS, draw_bundle, full_rows
from benchmarks.engine_bench.peak import measure_peaks, physical_cores
from benchmarks.engine_bench.sentences import NAME as DEMO
from benchmarks.engine_bench.sentences import SETTINGS, demo_bench, measure_demo
from benchmarks.engine_bench.show import show
from lnmt.files import write_json
from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import REFERENCE, Candidate
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities, capabilities

SEED = 7
CALIBRATION = (4, LONG)  # B and T of the one batch that drawn weights are calibrated on


def main() -> int:
    """Measure, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS, DEMO], choices=[*MODELS, DEMO], metavar="MODEL")
    parser.add_argument("--lengths", nargs="+", type=int, default=[SHORT, LONG])
    parser.add_argument("--seconds", type=float, default=45, help="of rounds at one shape, about; at least 5 rounds")
    parser.add_argument("--rounds", type=int, default=30, help="at one shape, at most")
    parser.add_argument("--without", nargs="+", default=[], metavar="ENGINE", help="of LNMT's, such as torch_compile")
    parser.add_argument("--threads", type=int, default=None, help="of LNMT's engines; default one per core")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-engines.json"))
    options = parser.parse_args()
    start, machine, progress = time.monotonic(), capabilities(), Progress()
    threads = options.threads or machine.cores
    cells: list[Cell] = []
    absent: dict[str, dict[str, str]] = {}
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="lnmt-bench-") as scratch:
            measure = measure_texts if name == DEMO else measure_model
            found, absent[name] = measure(name, Path(scratch), machine, threads, options, progress)
            cells += found
        release()
    goals = judge(cells)
    seconds = time.monotonic() - start
    report = {
        "machine": {"hardware": machine.hardware, "cpu": machine.cpu, "libraries": dict(machine.libraries)},
        "threads": threads,
        "seconds": round(seconds, 1),
        "cells": [cell.as_json() for cell in cells],
        "absent": absent,
        "goals": [goal.as_json() for goal in goals],
    }
    write_json(options.out, report)
    show(cells, goals, absent, f"{machine.cpu}, {machine.hardware}, {threads} threads; {seconds / 60:.1f} min")
    return int(any(not goal.met and goal.possible and not goal.stretch for goal in goals))


def measure_model(
    name: str, scratch: Path, machine: Capabilities, threads: int, options: argparse.Namespace, progress: Progress
) -> tuple[list[Cell], dict[str, str]]:
    """One published model at every length and batch size; and the engines that are absent, with why."""
    model, rng = MODELS[name], np.random.default_rng(SEED)
    bench = Workbench(
        source=Source(draw_bundle(model, max(options.lengths), scratch / "reference"), scratch / "work"),
        machine=machine,
        calibration=lambda: [full_rows(model, *CALIBRATION, np.random.default_rng(SEED))],
        progress=progress,
        threads=threads,
    )
    bench.source.work.mkdir()
    large = model.batch_sizes[-1]
    settings = [{"group_rows": large // 2, "streams": 2}] if threads > 1 else []
    cells = []
    bench.absent.update(dict.fromkeys(model.without, "left out for time: the smaller models show it"))
    with open_contenders(bench, wanted(machine, settings, [*options.without, *model.without])) as contenders:
        for tokens in options.lengths:
            for rows in model.batch_sizes:
                peaks = measure_peaks(model.products(), rows * tokens, min(threads, physical_cores()))
                cell = Cell(name, tokens, rows, 0, model.operations(rows, tokens) / 1e9, peaks, [])
                calls = SHORT_CALLS if rows == 1 else 1
                batches = [full_rows(model, rows, tokens, rng) for _ in range(calls)]
                budget = Budget(options.seconds if rows > 1 else options.seconds / 3, options.rounds)
                cells.append(measure_cell(cell, contenders, batches, budget, rng, progress))
    return cells, bench.absent


def measure_texts(
    name: str, scratch: Path, machine: Capabilities, threads: int, options: argparse.Namespace, progress: Progress
) -> tuple[list[Cell], dict[str, str]]:
    """The demo's classifier on its texts; and the engines that are absent, with why."""
    bench, texts = demo_bench(scratch, machine, threads, progress)
    candidates = wanted(machine, SETTINGS if threads > 1 else SETTINGS[:1], options.without)
    budget = Budget(options.seconds, options.rounds)
    return measure_demo(bench, texts, candidates, budget, np.random.default_rng(SEED), progress), bench.absent


def wanted(machine: Capabilities, settings: Sequence[dict[str, Any]], without: Sequence[str]) -> list[Candidate]:
    """LNMT's candidates, but for the engines that are left out; the reference stays."""
    listed = list_candidates(machine, settings)
    return [one for one in listed if one.engine not in without or one == REFERENCE]


def release() -> None:
    """Give back what a model's engines held, before the next one's are loaded."""
    import torch

    torch._dynamo.reset()
    gc.collect()


if __name__ == "__main__":
    sys.exit(main())
