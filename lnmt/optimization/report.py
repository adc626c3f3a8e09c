"""reports/optimization: every measurement as JSON, every timed call as CSV, and a page that needs no network."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from lnmt.files import write_bytes, write_json
from lnmt.optimization.answers import Validation
from lnmt.optimization.bench import Times
from lnmt.optimization.candidate import REFERENCE, Measurement
from lnmt.optimization.choose import Choice
from lnmt.optimization.parity import UNITS
from lnmt.params import OptimizeParams
from lnmt.runtime.capabilities import Capabilities
from lnmt.training.metrics.names import default_metric
from lnmt.types import Task

TEMPLATE = "page.html.j2"
WIDTH, HEIGHT = 640, 240  # of the plot's inside, in its own units


@dataclass(frozen=True)
class Summary:
    """Everything that was found."""

    measurements: Sequence[Measurement]
    times: Times
    choice: Choice
    machine: Capabilities
    options: OptimizeParams
    validation: Validation


def write_report(directory: Path, found: Summary) -> None:
    """Write measurements.json, latency.csv and index.html into `directory`."""
    document = as_json(found)
    write_json(directory / "measurements.json", document)
    write_bytes(directory / "latency.csv", latency_csv(found.times).encode())
    write_bytes(directory / "index.html", render_page(document, found.options).encode())


def as_json(found: Summary) -> dict[str, Any]:
    """measurements.json. The winner and its speed-up stand at the top, where `dvc metrics` shows them."""
    size = found.options.objective_batch_size
    winner = next(entry for entry in found.measurements if entry.candidate == found.choice.winner)
    latency = winner.latency[size]
    return {
        "winner": found.choice.winner.name,
        "why": found.choice.why,
        "median_ms": latency.median_ms,
        "speedup": latency.speedup,
        "speedup_interval": latency.speedup_interval.as_list(),
        "objective_batch_size": size,
        "confidence": found.options.confidence,
        "task": found.validation.task,
        "rows": len(found.validation.texts),
        "machine": {
            "hardware": found.machine.hardware,
            "cpu": found.machine.cpu,
            "threads": found.options.threads or found.machine.cores,
            "libraries": dict(found.machine.libraries),
        },
        "measurements": [
            {**entry.as_json(), "lost": found.choice.lost.get(entry.candidate.name)} for entry in found.measurements
        ],
    }


def latency_csv(times: Times) -> str:
    """One line a timed call."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["candidate", "batch_size", "round", "call", "latency_ms"])
    for size, by_name in times.items():
        for name, measured in by_name.items():
            for turn, calls in enumerate(measured.tolist()):
                writer.writerows([name, size, turn, call, f"{value:.4f}"] for call, value in enumerate(calls))
    return out.getvalue()


def render_page(document: Mapping[str, Any], options: OptimizeParams) -> str:
    """The page of what measurements.json holds."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["ms"] = lambda value: f"{value:.2f}"
    environment.filters["share"] = lambda value: f"{100 * value:.2f}%"
    environment.filters["signed"] = lambda value: f"{value:+.4f}".replace("-", "−")
    environment.filters["interval"] = lambda ends: f"{ends[0]:.2f} … {ends[1]:.2f}"
    template = environment.from_string(files("lnmt.optimization").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    entries = [{**entry, "number": number} for number, entry in enumerate(document["measurements"], start=1)]
    size = str(options.objective_batch_size)
    task: Task = document["task"]
    measured = [entry for entry in entries if entry["failure"] is None]
    return template.render(
        document=document,
        options=options.model_dump(),
        entries=entries,
        reference=REFERENCE.name,
        size=size,
        metric=default_metric(task),
        differs="mean move, in σ of the target" if task == "text-regression" else f"{UNITS[task]} flipped",
        charts=[_bars(measured, str(batch_size)) for batch_size in options.batch_sizes],
        plot=_plot(measured, size, options.max_flip_share),
    )


def _bars(entries: Sequence[Mapping[str, Any]], size: str) -> dict[str, Any]:
    """Median latencies at one batch size, widths in percent of the longest whisker."""
    longest = max(entry["latency"][size]["median_interval"][1] for entry in entries)
    rows = []
    for entry in sorted(entries, key=lambda entry: float(entry["latency"][size]["median_ms"])):
        latency = entry["latency"][size]
        low, high = latency["median_interval"]
        rows.append(
            {
                "name": entry["name"],
                "median_ms": latency["median_ms"],
                "speedup": latency["speedup"],
                "width": 100 * latency["median_ms"] / longest,
                "left": 100 * low / longest,
                "span": 100 * (high - low) / longest,
            }
        )
    return {"size": size, "rows": rows}


@dataclass(frozen=True)
class _Point:
    number: int
    name: str
    x: float
    y: float


def _plot(entries: Sequence[Mapping[str, Any]], size: str, limit: float) -> dict[str, Any]:
    """Speed against likeness: x is the median latency, y the share that differs, `limit` a line."""
    longest = 1.1 * max(entry["latency"][size]["median_ms"] for entry in entries)
    highest = max(0.001, 1.3 * max(limit, *(entry["parity"]["flip_share"] for entry in entries)))
    points = [
        _Point(
            entry["number"],
            entry["name"],
            WIDTH * entry["latency"][size]["median_ms"] / longest,
            HEIGHT * (1 - entry["parity"]["flip_share"] / highest),
        )
        for entry in entries
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "points": [asdict(point) for point in points],
        "limit": HEIGHT * (1 - limit / highest),
        "x_ticks": [(WIDTH * part / 4, longest * part / 4) for part in range(5)],
        "y_ticks": [(HEIGHT * (1 - part / 4), highest * part / 4) for part in range(5)],
    }
