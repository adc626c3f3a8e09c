"""Every compression of the demo's trained model beside the model itself: `python -m benchmarks.compressions`.

Each is made as the stage `optimize` makes its candidates, by the recipes that `params.yaml: optimize.compressions` may
hold; those that train do so as `optimize.fine_tune` says, with the trained model as their teacher. Told of each: the
share of the blocks' parameters that is left (embeddings and head are not counted), the task's metric on validation and
what it lost of the reference's, the answers that differ with the most that they can be in truth at 95 % confidence, the
size of the bundle, the time of a call of one text and of 32 in turns with PyTorch in fp32, the seconds that it took to
make, and whether it fits `optimize.budget` on validation. Engines are OpenVINO in the least precision that the CPU
has, and ONNX Runtime in fp32; the faster one is told.

The model is the project's; where it has none that was approved, the stages up to `gate` train one in a project of
their own. What was made stays in .lnmt/bench-compressions of the project, and a run that was cut short goes on with
it. Prints a table and writes reports/bench-compressions.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.training import process
from lnmt.bundles import Bundle
from lnmt.files import write_json
from lnmt.models import load_model
from lnmt.models.blocks import block_parameters
from lnmt.optimization.bench import Bench
from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.optimization.choose import differs
from lnmt.optimization.optimize import open_bench
from lnmt.optimization.plan import make_compression, runs, split_recipe
from lnmt.optimization.report import machine_json
from lnmt.params import Objective, Params, Plugin, load_params
from lnmt.plugins import load_plugins
from lnmt.progress import Progress
from lnmt.settings import Settings
from lnmt.stages import StageIO, find_stage, run_stage, stage_io
from lnmt.stats.shares import share_upper

CONFIDENCE, SIZES = 0.95, [1, 32]
ROUNDS, WARMUP_ROUNDS = 9, 2
APPROVAL = "reports/gate/approval.json"
RECIPES: list[list[dict[str, Any]]] = [
    [{"name": "static_int8"}],
    [{"name": "dynamic_int8"}],
    [{"name": "weight_int8"}],
    [{"name": "trim_vocabulary"}],
    [{"name": "prune_heads", "parameters": 0.2}],
    [{"name": "prune_heads", "parameters": 0.3}],
    [{"name": "prune_heads", "parameters": 0.6}],
    [{"name": "drop_layers", "keep": 3}],
    [{"name": "distil", "layers": 3}],
    [{"name": "low_rank", "budget": 0.5}],
    [{"name": "qat"}, {"name": "static_int8"}],
]


def main() -> int:
    """Make, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="with models/trained, approved")
    parser.add_argument("--minutes", type=float, default=30, help="nothing new is begun later")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-compressions.json"))
    options = parser.parse_args()
    start, settings = time.monotonic(), Settings(project=options.project.absolute())
    work = settings.state_dir / "bench-compressions"
    project = trained_project(settings, work)
    params = quick(load_params(project / "params.yaml"), 60 * options.minutes)
    load_plugins(params.plugins, project)
    with open_bench(params, open_io(project, settings, params, work)) as bench:
        reference, whole = bench.look(REFERENCE), load_model(bench.builder.build(REFERENCE).bundle)
        rows = [measure(bench, recipe, reference, block_parameters(whole)) for recipe in listed()]
        machine = machine_json(bench.machine, bench.options)
    seconds = round(time.monotonic() - start, 1)
    report = {"machine": machine, "seconds": seconds, "reference": reference.as_json(), "compressions": rows}
    write_json(options.out, report)
    show(reference, rows, f"{machine['cpu']}, {machine['hardware']}; {seconds / 60:.1f} min")
    return 0


def trained_project(settings: Settings, work: Path) -> Path:
    """The project, or where its model is not approved yet one beside it that was trained from its params.yaml."""
    if (settings.project / APPROVAL).is_file():
        return settings.project
    project = work / "project"
    if not (project / APPROVAL).is_file():
        shutil.rmtree(project, ignore_errors=True)
        process(settings, project)
        for name in ("train", "evaluate", "gate"):
            run_stage(name, Settings(project=project, state=project / ".lnmt", cache=settings.cache))
    return project


def quick(params: Params, limit_s: float) -> Params:
    """The project's parameters, with the rounds and the time limit of this benchmark."""
    change = {
        "batch_sizes": SIZES,
        "objective": Objective(measure="p50", batch_size=SIZES[0]),
        "rounds": ROUNDS,
        "warmup_rounds": WARMUP_ROUNDS,
        "time_limit_s": limit_s,
    }
    return params.model_copy(update={"optimize": params.optimize.model_copy(update=change)})


def open_io(project: Path, settings: Settings, params: Params, work: Path) -> StageIO:
    """What the stage would touch, but for its work: kept by this benchmark, whatever is committed meanwhile."""
    own = Settings(project=project, state=settings.state_dir, cache=settings.cache)
    io = stage_io(find_stage("optimize"), params, own, Progress())
    return replace(io, work=work / "search", lineage=Bundle.open(io.read("models/trained")).manifest.lineage)


def listed() -> list[tuple[Plugin, ...]]:
    return [tuple(map(Plugin.model_validate, recipe)) for recipe in RECIPES]


def measure(bench: Bench, recipe: tuple[Plugin, ...], reference: Measurement, whole: int) -> dict[str, Any]:
    """One compression on its faster engine; `whole`: the parameters of the reference's blocks."""
    looked = [bench.look(candidate) for candidate in candidates(bench, recipe)]
    able = [entry for entry in looked if entry.failure is None]
    if not able:
        return {"recipe": label(recipe), "failure": "; ".join(dict.fromkeys(str(entry.failure) for entry in looked))}
    best = max(able, key=lambda entry: entry.figure(bench.options.objective).speedup)
    (_, timed), _ = bench.race([reference, best])
    weights, _ = split_recipe(best.candidate)
    left = load_model(bench.builder.build(Candidate(REFERENCE.engine, REFERENCE.precision, weights)).bundle)
    assert best.parity is not None, "what did not fail was measured"
    flips, units = best.parity.flips, best.parity.units
    return {
        "recipe": label(recipe),
        "failure": None,
        "measured": timed.as_json(),
        "blocks_left": block_parameters(left) / whole,
        "flip_share_upper": None if flips is None else share_upper(flips, units, CONFIDENCE),
        "over_budget": differs(best, bench.options),
    }


def candidates(bench: Bench, recipe: Sequence[Plugin]) -> Iterator[Candidate]:
    """The recipe on each engine that runs it."""
    compressions = [make_compression(plugin) for plugin in recipe]
    low = Candidate("openvino", "fp32" if bench.machine.why_not("openvino", "bf16") else "bf16", tuple(recipe))
    for candidate in (low, Candidate("onnxruntime", "fp32", tuple(recipe))):
        if runs(candidate.engine, compressions):
            yield candidate


def label(recipe: Sequence[Plugin]) -> str:
    """`prune_heads parameters=0.3`."""
    parts = [" ".join([one.name, *(f"{key}={value}" for key, value in one.options.items())]) for one in recipe]
    return " + ".join(parts)


def show(reference: Measurement, rows: Sequence[dict[str, Any]], machine: str) -> None:
    """The table."""
    console = Console(width=max(Console().width, 200))
    assert reference.parity is not None, "the reference was measured"
    name, value = reference.parity.metric, reference.parity.value
    table = Table(title=f"{REFERENCE.name}: {name} {value:.4f}, {reference.megabytes:.1f} MB", title_justify="left")
    columns = ("compression", "engine", "blocks left", name, "lost", "flips (at most)", "MB")
    for column in (*columns, *(f"× at {size}" for size in SIZES), "made in s", "fits the budget"):
        table.add_column(column, justify="left" if column in ("compression", "engine", "fits the budget") else "right")
    for row in rows:
        blank = [""] * (len(table.columns) - 2)
        table.add_row(row["recipe"], *([*blank, row["failure"]] if row["failure"] else _cells(row)))
    console.print(table)
    console.print(machine)


def _cells(row: dict[str, Any]) -> list[str]:
    found, parity = row["measured"], row["measured"]["parity"]
    upper = "" if row["flip_share_upper"] is None else f" ({row['flip_share_upper']:.2%})"
    times = [found["latency"][str(size)]["p50"] for size in SIZES]
    return [
        f"{found['engine']}-{found['precision']}",
        f"{row['blocks_left']:.0%}",
        f"{parity['value']:.4f}",
        f"{parity['metric_loss']:+.4f}",
        f"{parity['flip_share']:.2%}{upper}",
        f"{found['megabytes']:.1f}",
        *(f"{time['speedup']:.2f} ({time['ms']:.1f} ms)" for time in times),
        f"{found['built_s']:.0f}",
        row["over_budget"] or "yes",
    ]


if __name__ == "__main__":
    sys.exit(main())
