"""Every engine × precision of this machine, side by side in one run: `python -m benchmarks.engines`.

The demo's classifier (MiniLM: 6 layers, 384 wide, 12 heads) with random weights, since time does not
depend on them; lengths from a seeded log-normal with a mean near 22 tokens, as the demo's sentences
have. Calls run in turns (`lnmt.optimization.latency`), so that a busy moment disturbs all of them.
Prints a table and writes reports/bench-engines.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.errors import LnmtError
from lnmt.files import write_json
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.build import build_candidate
from lnmt.optimization.candidate import REFERENCE, Candidate, Latency, Precision
from lnmt.optimization.latency import draw_batches, summarise, time_in_turns
from lnmt.runtime import ENGINES, Engine
from lnmt.runtime.capabilities import Capabilities, capabilities
from lnmt.types import Batch

SEED, CONFIDENCE, SAMPLES = 7, 0.95, 1000
VOCABULARY, MAX_TOKENS, PAD_MULTIPLE = 30_522, 64, 8
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
NONE = "sha256:" + "0" * 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--warmup-rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=None, help="of each engine; default one per core")
    parser.add_argument("--out", type=Path, default=Path("reports/bench-engines.json"))
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        report = measure(Path(work), options)
    report["seconds"] = round(time.monotonic() - start, 1)
    write_json(options.out, report)
    show(report)


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The report: machine, settings, and figures by engine and batch size."""
    machine = capabilities()
    source = Source(demo_bundle(work / REFERENCE.name), work)
    rng = np.random.default_rng(SEED)
    rows = draw_rows(rng)
    with open_engines(source, machine, options.threads) as (engines, absent):
        calls = {name: engine.infer for name, engine in engines.items()}
        measured: dict[str, dict[str, Latency]] = {name: {} for name in engines}
        for size in options.batch_sizes:
            batches = draw_batches(rows, size, options.rounds, pad, rng)
            times = time_in_turns(calls, batches, warmup_rounds=options.warmup_rounds, rng=rng)
            for name, found in times.items():
                measured[name][str(size)] = summarise(
                    times[REFERENCE.name], found, confidence=CONFIDENCE, samples=SAMPLES, rng=rng
                )
    return {
        "machine": {"hardware": machine.hardware, "cpu": machine.cpu, "libraries": dict(machine.libraries)},
        "threads": options.threads or machine.cores,
        "rounds": options.rounds,
        "mean_tokens": float(np.mean([len(row) for row in rows])),
        "engines": {
            name: {size: latency_json(latency, int(size)) for size, latency in by_size.items()}
            for name, by_size in measured.items()
        },
        "absent": absent,
    }


def demo_bundle(target: Path) -> Bundle:
    """The demo's architecture with seeded random weights."""
    import torch
    from transformers import BertConfig

    from lnmt.models.classifier import EncoderClassifier

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ).to_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = EncoderClassifier({"task": "text-classification", "labels": 3, "config": config, "dropout": 0.0})
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.04)
            else:
                torch.nn.init.constant_(parameter, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
    draft = Draft(
        task="text-classification",
        labels=["negative", "neutral", "positive"],
        model=model.describe("encoder_classifier"),
        engine=REFERENCE.engine,
        precision=REFERENCE.precision,
        max_tokens=MAX_TOKENS,
        pad_multiple=PAD_MULTIPLE,
        temperature=1.0,
        processors=[],
        parent=None,
        lineage=Lineage(commit=None, dirty=False, params=NONE, lock=NONE),
        evidence={},
    )
    with new_bundle(target, draft) as directory:
        model.save(directory / "model.safetensors")
        (directory / "tokenizer.json").write_text("{}")  # the rows are token ids already
    return Bundle.open(target)


def draw_rows(rng: np.random.Generator) -> list[list[int]]:
    """A thousand texts as token ids."""
    lengths = np.clip(rng.lognormal(2.95, 0.55, 1000).astype(int), 4, MAX_TOKENS)
    return [rng.integers(1000, VOCABULARY, length).tolist() for length in lengths]


def pad(rows: Sequence[Sequence[int]]) -> Batch:
    """As `lnmt.text.tokenizer` pads."""
    width = -(-max(map(len, rows)) // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return Batch(ids, mask)


@contextmanager
def open_engines(
    source: Source, machine: Capabilities, threads: int | None
) -> Iterator[tuple[dict[str, Engine], dict[str, str]]]:
    """Every engine by candidate's name, the reference first, and the reasons of those that are absent."""
    engines: dict[str, Engine] = {}
    absent: dict[str, str] = {}
    wanted = [REFERENCE] + [Candidate(name, precision) for name in BACKENDS.names() for precision in PRECISIONS]
    with ExitStack() as stack:
        for candidate in {candidate.name: candidate for candidate in wanted}.values():
            reason = machine.why_not(candidate.engine, candidate.precision)
            if reason is not None:
                absent[candidate.name] = reason
                continue
            try:
                bundle = build_candidate(candidate, source)
            except LnmtError as error:
                absent[candidate.name] = error.what
                continue
            engine = ENGINES.get(candidate.engine)()
            engine.load(bundle, threads=threads, cache=None)
            stack.callback(engine.close)
            engines[candidate.name] = engine
        yield engines, absent


def latency_json(latency: Latency, size: int) -> dict[str, Any]:
    """What the report keeps of one engine at one batch size."""
    return {
        "median_ms": latency.median_ms,
        "median_interval": latency.median_interval.as_list(),
        "p95_ms": latency.p95_ms,
        "texts_per_s": 1000 * size / latency.median_ms,
        "speedup": latency.speedup,
        "speedup_interval": latency.speedup_interval.as_list(),
    }


def show(report: dict[str, Any]) -> None:
    """The report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 100))
    sizes = next(iter(report["engines"].values()))
    for size in sizes:
        title = f"batch size {size}, {report['mean_tokens']:.1f} tokens a text, {report['threads']} threads"
        table = Table(title=title, title_justify="left")
        for column in ("engine", "median ms", "95 % interval", "p95 ms", "texts/s", "× torch fp32"):
            table.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
        for name, found in sorted(report["engines"].items(), key=lambda item: item[1][size]["median_ms"]):
            entry = found[size]
            low, high = entry["speedup_interval"]
            interval = "{:.2f} … {:.2f}".format(*entry["median_interval"])
            ratio = f"{entry['speedup']:.2f} ({low:.2f} … {high:.2f})"
            numbers = [f"{entry['median_ms']:.2f}", interval, f"{entry['p95_ms']:.2f}", f"{entry['texts_per_s']:.0f}"]
            table.add_row(name, *numbers, ratio)
        console.print(table)
    for name, reason in report["absent"].items():
        console.print(f"{name}: {reason}")
    console.print(f"{report['machine']['cpu']}, {report['machine']['hardware']}; {report['seconds']} s")


if __name__ == "__main__":
    main()
