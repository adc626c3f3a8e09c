"""reports/training: the curves as CSV (DVC plots them) and as a picture, the outcome as metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lnmt.files import new_directory, write_bytes, write_json
from lnmt.training.state import TrainState


def write_report(target: Path, state: TrainState, metric: str, choices: Mapping[str, Any]) -> None:
    """Write curves.csv, validation.csv, curves.svg and summary.json as the directory `target`.

    `metric`: the one that chose the best step; `choices`: what was decided by measuring, as JSON values.
    """
    with new_directory(target) as directory:
        write_bytes(directory / "curves.csv", as_csv(state.curve))
        write_bytes(directory / "validation.csv", as_csv(state.validation))
        write_bytes(directory / "curves.svg", draw(state, metric))
        seconds = max(state.seconds, 1e-9)
        summary = {
            "steps": state.step,
            "samples": state.samples,
            "tokens": state.tokens,
            "seconds": round(state.seconds, 3),
            "samples_per_second": round(state.samples / seconds, 1),
            "tokens_per_second": round(state.tokens / seconds, 1),
            "input_share": round(state.waited_s / seconds, 4),
            "stopped_early": state.stopped,
            "best_step": state.best_step,
            "validation": state.best,
            "left_out": state.left_out,
            **choices,
        }
        write_json(directory / "summary.json", summary)


def as_csv(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Lines of `rows` under a header: the names of the first."""
    out = io.StringIO()
    columns = list(rows[0]) if rows else []
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{row[name]:.10g}" for name in columns} for row in rows)
    return out.getvalue().encode()


def draw(state: TrainState, metric: str) -> bytes:
    """Loss of both splits, the metric and the learning rate over the steps, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss, judged, rate = figure.subplots(1, 3)
    steps = [point["step"] for point in state.curve]
    evaluated = [point["step"] for point in state.validation]
    loss.plot(steps, [point["loss"] for point in state.curve], label="train", color="#4c72b0")
    loss.plot(evaluated, [point["loss"] for point in state.validation], "o-", label="validation", color="#dd8452")
    judged.plot(evaluated, [point[metric] for point in state.validation], "o-", label=metric, color="#55a868")
    if state.best_step is not None:
        judged.axvline(state.best_step, color="#999999", linestyle=":", label="best")
    rate.plot(steps, [point["lr"] for point in state.curve], color="#64b5cd")
    for axes, title in ((loss, "loss"), (judged, "validation"), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(frameon=False)
    judged.legend(frameon=False)
    out = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
