"""LNMT's training loop against a plain one, in turns on the same rows: `python benchmarks/training.py`.

Plain: every text padded to `max_tokens`, shuffled, fp32, torch's AdamW as it comes, no clipping.
LNMT: its own loop as the stage `train` runs it (length buckets, the precision that `auto` measures,
fused AdamW, clipping, schedule). Both start with the same weights, have the same batch size, and get
texts that are tokenised already. A round is the next few steps of LNMT's own order of an epoch, and
both loops train on all rows of it; a busy moment of the machine disturbs both.

The texts are those of data/processed; where there is none, the stages up to `process` make it in a
temporary project from ./params.yaml. Prints a table and writes reports/bench-training.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnmt.data.batches import Examples, batch_order, load_examples
from lnmt.files import read_json, write_json
from lnmt.hub import fetch, find_model
from lnmt.models import build_model
from lnmt.models.base import BaseModel
from lnmt.params import TrainParams, load_params
from lnmt.progress import Progress
from lnmt.runtime.capabilities import capabilities
from lnmt.settings import Settings
from lnmt.stages import run_stage
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.checkpoint import Checkpoints, TrainState
from lnmt.training.feed import to_batch
from lnmt.training.loop import Loop, Plan, StepOrder
from lnmt.training.optimizers import build_optimizer, set_rate
from lnmt.training.precision import PrecisionChoice, choose_precision
from lnmt.training.schedules import build_schedule

GOAL = 2.5  # times the plain loop's samples/s
PROBE_BATCHES = 6
WARM_UP_STEPS = 3

Steps = Sequence[list[NDArray[np.int64]]]  # the row places of each batch of each optimiser step
Trainer = Callable[[Steps], None]  # trains once on all of these rows


@dataclass(frozen=True)
class Setting:
    """What both loops share."""

    options: TrainParams
    examples: Examples
    tokenizer: Tokenizer
    encoder: Path
    classes: int

    def model(self) -> BaseModel:
        """A fresh one; the same weights at every call."""
        return build_model(self.options, self.classes, self.encoder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps of a round")
    parser.add_argument("--limit-s", type=float, default=180.0, help="no round starts later, unless it is the third")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-training.json"))
    options = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setting = prepare(work)
        report = measure(setting, work, options.rounds, options.steps, options.limit_s)
    write_json(options.out, report)
    show(report)


def prepare(work: Path) -> Setting:
    """The training split of this directory's project, tokenised, and the encoder."""
    settings = Settings(project=Path.cwd())
    params = load_params(settings.project / "params.yaml")
    progress = Progress(show=False)
    processed = settings.project / "data/processed"
    if not (processed / "manifest.json").is_file():
        processed = process(settings, work / "project")
    encoder = find_model(
        fetch(
            params.train.encoder,
            digest=params.train.digest,
            cache=settings.cache,
            progress=progress,
            offline=settings.offline,
            root=settings.project,
        )
    )
    labels: list[str] = read_json(processed / "manifest.json")["labels"]
    tokenizer = Tokenizer(encoder / "tokenizer.json", params.train.max_tokens)
    examples = load_examples(processed / "train", labels, tokenizer, progress)
    return Setting(params.train, examples, tokenizer, encoder, len(labels))


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


def measure(setting: Setting, work: Path, rounds: int, size: int, limit_s: float) -> dict[str, Any]:
    """The report: machine, settings, samples/s of both by round, and their ratios."""
    plan = Plan.of(len(setting.examples), setting.options)
    order = StepOrder(setting.examples.lengths, plan, setting.options)
    lnmt, choice = lnmt_loop(setting, plan, work)
    loops = {"plain": plain_loop(setting), "lnmt": lnmt}
    for loop in loops.values():
        loop([order.batches(step) for step in range(WARM_UP_STEPS)])
    rates: list[dict[str, float]] = []
    start = time.monotonic()
    while len(rates) < rounds and (len(rates) < 3 or time.monotonic() - start < limit_s):
        first = WARM_UP_STEPS + len(rates) * size
        steps = [order.batches(step % plan.steps_per_epoch) for step in range(first, first + size)]
        rows = sum(len(places) for batches in steps for places in batches)
        names = list(loops) if len(rates) % 2 else list(loops)[::-1]
        rates.append({name: round(rows / seconds(loops[name], steps), 2) for name in names})
    ratios = [rate["lnmt"] / rate["plain"] for rate in rates]
    machine = capabilities()
    return {
        "machine": {"hardware": machine.hardware, "cpu": machine.cpu, "libraries": dict(machine.libraries)},
        "threads": torch.get_num_threads(),
        "batch_size": setting.options.batch_size,
        "max_tokens": setting.options.max_tokens,
        "mean_tokens": round(float(setting.examples.lengths.mean()), 2),
        "steps_per_round": size,
        "precision": {"lnmt": choice.precision, "why": choice.why, "plain": "fp32"},
        "rounds": rates,
        "samples_per_s": {name: statistics.median(rate[name] for rate in rates) for name in loops},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "goal": GOAL},
        "seconds": round(time.monotonic() - start, 1),
    }


def seconds(loop: Trainer, steps: Steps) -> float:
    """Wall time of these steps."""
    start = time.perf_counter()
    loop(steps)
    return time.perf_counter() - start


def lnmt_loop(setting: Setting, plan: Plan, work: Path) -> tuple[Trainer, PrecisionChoice]:
    """The loop of the stage `train`, without its evaluations and checkpoints."""
    options, model = setting.options, setting.model()
    order = batch_order(setting.examples.lengths, options.batch_size, options.seed, 0)[:PROBE_BATCHES]
    probes = [to_batch(setting.examples, places, setting.tokenizer) for places in order]
    choice = choose_precision(options.precision, model, probes, work / "precision.json")
    loop = Loop(
        model=model,
        tokenizer=setting.tokenizer,
        train=setting.examples,
        validation=setting.examples,
        options=options,
        precision=choice.precision,
        checkpoints=Checkpoints(work / "checkpoints", {}),
        progress=Progress(show=False),
    )
    optimizer, schedule = build_optimizer(model, options.optimizer), build_schedule(options.schedule, plan.steps)
    state = TrainState()

    def train(steps: Steps) -> None:
        for batches in steps:
            set_rate(optimizer, schedule(state.step))
            loop.step(batches, optimizer, state)

    return train, choice


def plain_loop(setting: Setting) -> Trainer:
    """What a tutorial shows."""
    options, model = setting.options, setting.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)

    def train(steps: Steps) -> None:
        places = np.concatenate([places for batches in steps for places in batches])
        ids = torch.full((len(places), options.max_tokens), setting.tokenizer.pad_id)
        mask = torch.zeros_like(ids)
        for line, row in enumerate(setting.examples.rows(places)):
            ids[line, : len(row)] = torch.from_numpy(row)
            mask[line, : len(row)] = 1
        dataset = torch.utils.data.TensorDataset(ids, mask, torch.from_numpy(setting.examples.labels[places]))
        for input_ids, attention_mask, labels in torch.utils.data.DataLoader(
            dataset, batch_size=options.batch_size, shuffle=True
        ):
            optimizer.zero_grad()
            logits, _ = model(input_ids, attention_mask)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            torch.autograd.backward(loss)
            optimizer.step()

    return train


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 100))
    title = (
        f"batches of {report['batch_size']}, {report['mean_tokens']:.1f} tokens a text, {report['threads']} threads, "
        f"{len(report['rounds'])} rounds of {report['steps_per_round']} steps in turns"
    )
    table = Table(title=title, title_justify="left")
    for column in ("loop", "precision", "samples/s, median", "min … max", "× plain"):
        table.add_column(column, justify="left" if column in ("loop", "precision") else "right", no_wrap=True)
    ratio = report["ratio"]
    for name, against in (
        ("plain", "1"),
        ("lnmt", f"{ratio['median']:.2f} ({ratio['min']:.2f} … {ratio['max']:.2f})"),
    ):
        rates = [rate[name] for rate in report["rounds"]]
        median = f"{report['samples_per_s'][name]:.1f}"
        table.add_row(name, report["precision"][name], median, f"{min(rates):.1f} … {max(rates):.1f}", against)
    console.print(table)
    verdict = "reached" if ratio["median"] >= GOAL else "missed"
    console.print(f"goal {GOAL} × plain: {verdict}; {report['precision']['why']}; {report['machine']['cpu']}")


if __name__ == "__main__":
    main()
