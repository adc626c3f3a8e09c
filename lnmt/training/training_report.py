"""reports/training: the curves as CSV (DVC plots them) and as a picture, the outcome as metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lnmt.files import new_directory, write_bytes, write_json
from lnmt.training.checkpoint import TrainState
from lnmt.training.precision import PrecisionChoice

CURVE = ("step", "epoch", "loss", "lr", "samples_per_second")
VALIDATION = ("step", "loss", "accuracy", "macro_f1")


def write_report(target: Path, state: TrainState, precision: PrecisionChoice) -> None:
    """Write curves.csv, validation.csv, curves.svg and summary.json as the directory `target`."""
    with new_directory(target) as directory:
        write_bytes(directory / "curves.csv", as_csv(CURVE, state.curve))
        write_bytes(directory / "validation.csv", as_csv(VALIDATION, state.validation))
        write_bytes(directory / "curves.svg", draw(state))
        summary = {
            "steps": state.step,
            "samples": state.samples,
            "seconds": round(state.seconds, 3),
            "samples_per_second": round(state.samples / state.seconds, 1),
            "stopped_early": state.stopped,
            "best_step": state.best_step,
            "validation": state.best,
            "precision": asdict(precision),
        }
        write_json(directory / "summary.json", summary)


def as_csv(columns: Sequence[str], rows: Sequence[dict[str, float]]) -> bytes:
    """Lines of `rows` under a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{row[name]:.10g}" for name in columns} for row in rows)
    return out.getvalue().encode()


def draw(state: TrainState) -> bytes:
    """Loss of both splits, the validation metric and the learning rate over the steps, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss, metric, rate = figure.subplots(1, 3)
    steps = [point["step"] for point in state.curve]
    evaluated = [point["step"] for point in state.validation]
    loss.plot(steps, [point["loss"] for point in state.curve], label="train", color="#4c72b0")
    loss.plot(evaluated, [point["loss"] for point in state.validation], "o-", label="validation", color="#dd8452")
    metric.plot(evaluated, [point["macro_f1"] for point in state.validation], "o-", label="macro-F1", color="#55a868")
    metric.plot(evaluated, [point["accuracy"] for point in state.validation], "o-", label="accuracy", color="#8172b3")
    if state.best_step is not None:
        metric.axvline(state.best_step, color="#999999", linestyle=":", label="best")
    rate.plot(steps, [point["lr"] for point in state.curve], color="#64b5cd")
    for axes, title in ((loss, "loss"), (metric, "validation"), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(frameon=False)
    metric.legend(frameon=False)
    out = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
