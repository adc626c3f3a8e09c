"""LNMT's training beside Hugging Face's Trainer and a plain loop: `python -m benchmarks.training`.

plain    what a tutorial shows: padded to `max_tokens`, shuffled, fp32, AdamW as it comes
trainer  Hugging Face's Trainer tuned by its documentation: grouped by length, padded to a multiple of 8, bf16,
         fused AdamW; transformers' BERT with the same pooling and head
lnmt     the loop of the stage `train`, through `lnmt.training.fit`, in bf16

All have the same tokenised rows, start weights, batch size, learning rate, schedule, clipping and weight decay
(plain: its own rate, no schedule). Each runs in a process of its own (benchmarks/trainers), so that its peak
memory is its own, and they take turns: a round is some steps of one while the others stand still, so that a busy
moment of the machine disturbs all. Nothing is evaluated, logged or saved within a round. Rows are in each loop's
own order: the rounds together are an epoch, in which all rows are the same.

Then Trainer and LNMT train an epoch on a part of the rows with several seeds, and are scored on validation by the
same code in fp32. Prints tables, writes reports/bench-training.json, and exits 1 where a goal is missed.

The texts are those of data/processed; where there is none, the stages up to `process` make it in a temporary
project from ./params.yaml.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lnmt.files import read_json, write_json
from lnmt.hub import fetch, find_model
from lnmt.params import load_params
from lnmt.progress import Progress
from lnmt.runtime.capabilities import capabilities
from lnmt.settings import Settings
from lnmt.stages import run_stage

GOAL = 1.5  # times Trainer's samples/s
WAIT_GOAL = 0.02  # share of a step spent waiting for input
LOOPS = {"plain": "plain", "trainer": "hugging_face", "lnmt": "lnmt"}  # modules of benchmarks.trainers
PLAIN_SHARE = 5  # it does so many times fewer steps a round: all of its steps cost the same
WARM_UP_STEPS = 10
WHOLE = 10**9  # steps: to the end
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # Student's, by runs


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps of a round")
    parser.add_argument("--seeds", type=int, default=5, help="runs of an epoch that are scored; 0: none")
    parser.add_argument("--rows", type=int, default=6000, help="of the training split in such a run")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-training.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        setting = prepare(Path(scratch))
        report = {
            "machine": machine(),
            "speed": measure_speed(setting, options.rounds, options.steps),
            "quality": measure_quality(setting, options.seeds, options.rows) if options.seeds else None,
        }
    write_json(options.out, report)
    return show(report)


def machine() -> dict[str, Any]:
    """What it ran on."""
    found = capabilities()
    return {
        "hardware": found.hardware,
        "cpu": found.cpu,
        "libraries": dict(found.libraries),
        "threads": torch.get_num_threads(),
    }


def prepare(scratch: Path) -> dict[str, Any]:
    """What all loops share, see `benchmarks.trainers.common.Setting`."""
    settings = Settings(project=Path.cwd())
    params = load_params(settings.project / "params.yaml")
    processed = settings.project / "data/processed"
    manifest = processed / "manifest.json"
    if not manifest.is_file() or "task" not in read_json(manifest):
        processed = process(settings, scratch / "project")
    encoder = find_model(
        fetch(
            params.train.encoder,
            digest=params.train.digest,
            cache=settings.cache,
            progress=Progress(show=False),
            offline=settings.offline,
            root=settings.project,
        )
    )
    return {
        "params": str(settings.project / "params.yaml"),
        "processed": str(processed),
        "encoder": str(encoder),
        "work": str(scratch / "work"),
        "seed": params.train.seed,
        "rows": None,
        "epochs": 100,  # more than the rounds need; the learning rate hardly falls within them
        "precision": "bf16",
    }


def process(settings: Settings, project: Path) -> Path:
    """data/processed of a copy of the project that holds its params.yaml and incoming files alone."""
    project.mkdir(parents=True)
    shutil.copyfile(settings.project / "params.yaml", project / "params.yaml")
    incoming = settings.project / "data/incoming"
    if incoming.is_dir():
        shutil.copytree(incoming, project / "data/incoming")
    for name in ("ingest", "validate", "process"):
        run_stage(name, Settings(project=project, state=project / ".lnmt", cache=settings.cache))
    return project / "data/processed"


class Loop:
    """One of the loops in its process."""

    def __init__(self, name: str, setting: dict[str, Any]) -> None:
        work = Path(setting["work"]) / f"{name}-{setting['seed']}"
        work.mkdir(parents=True)
        self._errors = work / "errors.txt"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"benchmarks.trainers.{LOOPS[name]}",
                    json.dumps({**setting, "work": str(work)}),
                ],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def run(self, steps: int) -> dict[str, Any]:
        """So many steps more, and what they took."""
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a loop failed:\n{self._errors.read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it, wherever it stands."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def running(names: Sequence[str], setting: dict[str, Any]) -> Iterator[dict[str, Loop]]:
    """These loops, each up to its first step; ended afterwards."""
    loops: dict[str, Loop] = {}
    try:
        for name in names:
            loops[name] = Loop(name, setting)
        yield loops
    finally:
        for loop in loops.values():
            loop.close()


def measure_speed(setting: dict[str, Any], rounds: int, steps: int) -> dict[str, Any]:
    """Samples/s, tokens/s, share of waiting and peak memory of each, and LNMT's speed as a multiple of the others'."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in LOOPS}
    start = time.monotonic()
    with running(list(LOOPS), setting) as loops:
        for loop in loops.values():
            loop.run(WARM_UP_STEPS)
        for number in range(rounds):
            for name in list(LOOPS) if number % 2 else list(LOOPS)[::-1]:
                found[name].append(loops[name].run(steps // PLAIN_SHARE if name == "plain" else steps))
    totals = {name: {key: sum(one[key] for one in some) for key in some[0]} for name, some in found.items()}
    rates = {name: [one["rows"] / one["seconds"] for one in some] for name, some in found.items()}
    return {
        "steps_per_round": steps,
        "seconds": round(time.monotonic() - start, 1),
        "rounds": found,
        "loops": {
            name: {
                "samples_per_s": total["rows"] / total["seconds"],
                "tokens_per_s": total["tokens"] / total["seconds"],
                "tokens_per_sample": total["tokens"] / total["rows"],
                "waiting": total["waited_s"] / total["seconds"],
                "peak_mb": max(one["peak_mb"] for one in found[name]),
            }
            for name, total in totals.items()
        },
        "ratios": {
            name: {
                "whole": totals["lnmt"]["rows"] / totals["lnmt"]["seconds"] / (total["rows"] / total["seconds"]),
                "by_round": [ours / theirs for ours, theirs in zip(rates["lnmt"], rates[name], strict=True)],
            }
            for name, total in totals.items()
            if name != "lnmt"
        },
        "goals": {"ratio": GOAL, "waiting": WAIT_GOAL},
    }


def measure_quality(setting: dict[str, Any], seeds: int, rows: int) -> dict[str, Any]:
    """Validation macro-F1 of Trainer's and LNMT's model after an epoch over a part of the rows, by seed."""
    found: dict[str, list[float]] = {"trainer": [], "lnmt": []}
    for seed in range(1, seeds + 1):
        for name, scores in found.items():
            whole = {**setting, "work": f"{setting['work']}-{seed}", "seed": seed, "rows": rows, "epochs": 1}
            with running([name], whole) as loops:
                scores.append(loops[name].run(WHOLE)["macro_f1"])
    better = [ours - theirs for ours, theirs in zip(found["lnmt"], found["trainer"], strict=True)]
    error = statistics.stdev(better) / math.sqrt(seeds) if seeds > 1 else math.nan
    return {
        "rows": rows,
        "macro_f1": found,
        "mean": {name: statistics.mean(scores) for name, scores in found.items()},
        "difference": {"mean": statistics.mean(better), "half_interval_95": T_95.get(seeds, 2.0) * error},
    }


def show(report: dict[str, Any]) -> int:
    """The report as tables; returns the exit code."""
    from rich.console import Console
    from rich.table import Table

    speed, quality = report["speed"], report["quality"]
    console = Console(width=max(Console().width, 110))
    title = (
        f"{len(speed['rounds']['lnmt'])} rounds of {speed['steps_per_round']} steps in turns, "
        f"{report['machine']['threads']} threads, {report['machine']['cpu']}"
    )
    table = Table(title=title, title_justify="left")
    for column in ("loop", "samples/s", "tokens/s", "LNMT is", "min … max of a round", "waits", "peak MB"):
        table.add_column(column, justify="left" if column == "loop" else "right", no_wrap=True)
    for name, one in speed["loops"].items():
        ratio = speed["ratios"].get(name)
        table.add_row(
            name,
            f"{one['samples_per_s']:.1f}",
            f"{one['tokens_per_s']:.0f}",
            f"{ratio['whole']:.2f} ×" if ratio else "",
            f"{min(ratio['by_round']):.2f} … {max(ratio['by_round']):.2f}" if ratio else "",
            f"{one['waiting']:.2%}" if name != "plain" else "",
            f"{one['peak_mb']:.0f}",
        )
    console.print(table)
    ours, theirs = speed["loops"]["lnmt"], speed["loops"]["trainer"]
    goals = {
        f"at least {GOAL} × Trainer": speed["ratios"]["trainer"]["whole"] >= GOAL,
        f"waits at most {WAIT_GOAL:.0%}": ours["waiting"] <= WAIT_GOAL,
        "no more memory than Trainer": ours["peak_mb"] <= theirs["peak_mb"],
    }
    if quality is not None:
        table = Table(title=f"validation macro-F1 after an epoch over {quality['rows']} rows", title_justify="left")
        table.add_column("loop")
        for seed in range(1, len(quality["macro_f1"]["lnmt"]) + 1):
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for name, scores in quality["macro_f1"].items():
            table.add_row(name, *(f"{one:.4f}" for one in scores), f"{quality['mean'][name]:.4f}")
        console.print(table)
        difference, half = quality["difference"]["mean"], quality["difference"]["half_interval_95"]
        console.print(f"LNMT − Trainer: {difference:+.4f} ± {half:.4f} (95 % interval of the paired difference)")
        goals["not worse than Trainer, as far as these seeds tell"] = not difference + half < 0
    for goal, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
