"""The page of what measurements.json holds: plots and tables that need no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from lnmt.optimization.candidate import REFERENCE
from lnmt.optimization.parity import UNITS
from lnmt.training.metrics.names import default_metric
from lnmt.types import Task

TEMPLATE = "page.html.j2"
WIDTH, HEIGHT = 640, 260  # of the plot's inside, in its own units
LEAST_SPREAD = 0.001  # of a metric: a plot of smaller differences would magnify noise


def render_page(document: Mapping[str, Any]) -> str:
    """The page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["ms"] = lambda value: f"{value:.2f}"
    environment.filters["share"] = lambda value: f"{100 * value:.2f}%"
    environment.filters["signed"] = lambda value: f"{value:+.4f}".replace("-", "−")
    environment.filters["interval"] = lambda ends: f"{ends[0]:.2f} … {ends[1]:.2f}"
    template = environment.from_string(files("lnmt.optimization").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    entries = [{**entry, "number": number} for number, entry in enumerate(document["measurements"], start=1)]
    options, task = document["options"], document["task"]
    size = str(options["objective"]["batch_size"])
    measured = [entry for entry in entries if entry["failure"] is None and entry["latency"]]
    final = [entry for entry in measured if entry["final"]]
    return template.render(
        document=document,
        options=options,
        entries=entries,
        winner=next(entry for entry in entries if entry["name"] == document["winner"]),
        reference=REFERENCE.name,
        size=size,
        metric=default_metric(task),
        differs=_differs(task),
        charts=[_bars(final, str(batch_size)) for batch_size in options["batch_sizes"]],
        plot=_plot(measured, size, options["budget"]["max_metric_loss"], document["pareto"]),
    )


def _differs(task: Task) -> str:
    return "mean move, in σ of the target" if task == "text-regression" else f"{UNITS[task]} flipped"


def _bars(entries: Sequence[Mapping[str, Any]], size: str) -> dict[str, Any]:
    """Median latencies at one batch size, widths in percent of the longest whisker."""
    longest = max(entry["latency"][size]["p50"]["interval"][1] for entry in entries)
    rows = []
    for entry in sorted(entries, key=lambda entry: float(entry["latency"][size]["p50"]["ms"])):
        median = entry["latency"][size]["p50"]
        low, high = median["interval"]
        rows.append(
            {
                "name": entry["name"],
                "ms": median["ms"],
                "speedup": median["speedup"],
                "width": 100 * median["ms"] / longest,
                "left": 100 * low / longest,
                "span": 100 * (high - low) / longest,
            }
        )
    return {"size": size, "rows": rows}


def _plot(entries: Sequence[Mapping[str, Any]], size: str, limit: float, front: Sequence[str]) -> dict[str, Any]:
    """Speed against quality: x is the speed-up of the median, y the metric lost, a bubble's area the size of the files.

    Points of the Pareto front are joined.
    """
    fastest = 1.1 * max(entry["latency"][size]["p50"]["speedup"] for entry in entries)
    losses = [entry["parity"]["metric_loss"] for entry in entries]
    lowest = min(*losses, 0.0, limit) - LEAST_SPREAD
    highest = 1.1 * max(limit, LEAST_SPREAD, *(loss for loss in losses if loss <= 3 * limit)) + LEAST_SPREAD
    largest = max(entry["megabytes"] for entry in entries)

    def height(loss: float) -> float:
        return float(HEIGHT * (1 - (min(loss, highest) - lowest) / (highest - lowest)))

    points = [
        {
            "number": entry["number"],
            "name": entry["name"],
            "on_front": entry["name"] in front,
            "x": WIDTH * entry["latency"][size]["p50"]["speedup"] / fastest,
            "y": height(entry["parity"]["metric_loss"]),
            "radius": 6 + 10 * (entry["megabytes"] / largest) ** 0.5,
        }
        for entry in entries
    ]
    joined = sorted((point["x"], point["y"]) for point in points if point["on_front"])
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "points": points,
        "front": " ".join(f"{x:.1f},{y:.1f}" for x, y in joined),
        "limit": height(limit),
        "zero": height(0.0),
        "x_ticks": [(WIDTH * part / 4, fastest * part / 4) for part in range(5)],
        "y_ticks": [(HEIGHT * (1 - part / 4), lowest + (highest - lowest) * part / 4) for part in range(5)],
    }
