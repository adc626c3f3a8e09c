"""What a search found, as JSON and as a page that works offline."""

from __future__ import annotations

import io
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from lnmt.files import new_directory, write_bytes, write_json
from lnmt.params import Choices, TuneParams
from lnmt.training.metrics import higher_is_better
from lnmt.tuning.search import Found, Tried, told

BLUE, ORANGE, GREY = "#4c72b0", "#dd8452", "#bbbbbb"


def write_report(target: Path, found: Found, tune: TuneParams) -> None:
    """Write study.json and index.html as the directory `target`."""
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined)
    template = files("lnmt.tuning").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = pages.from_string(template).render(
        found=found,
        told=told,
        names=list(tune.space),
        trials=best_first(found),
        history=draw_history(found),
        curves=draw_curves(found),
        slices={name: draw_slice(found, name, tune) for name in tune.space},
    )
    with new_directory(target) as directory:
        write_json(directory / "study.json", asdict(found))
        write_bytes(directory / "index.html", page.encode())


def draw_history(found: Found) -> str:
    """Score by trial and the best so far, as SVG."""
    figure, axes = _figure()
    scored = [(tried.number, tried.score, tried.state) for tried in found.trials if tried.score is not None]
    for state, colour in (("complete", BLUE), ("pruned", GREY)):
        points = [(number, score) for number, score, kind in scored if kind == state]
        axes.scatter([number for number, _ in points], [score for _, score in points], color=colour, label=state, s=18)
    better = max if higher_is_better(found.metric) else min
    best: list[tuple[int, float]] = []
    for number, score, kind in sorted(scored):
        if kind == "complete":
            best.append((number, better(score, best[-1][1]) if best else score))
    axes.step([number for number, _ in best], [score for _, score in best], where="post", color=ORANGE, label="best")
    axes.set_xlabel("trial")
    axes.set_ylabel(found.metric)
    axes.legend(frameon=False)
    return _svg(figure)


def draw_curves(found: Found) -> str:
    """The metric over the steps of each trial; the best one stands out."""
    figure, axes = _figure()
    for tried in found.trials:
        is_best = found.best is not None and tried.number == found.best.number
        axes.plot(
            [step for step, _ in tried.curve],
            [score for _, score in tried.curve],
            color=ORANGE if is_best else GREY,
            zorder=2 if is_best else 1,
            marker="." if len(tried.curve) < 3 else None,
        )
    axes.set_xlabel("step")
    axes.set_ylabel(found.metric)
    return _svg(figure)


def draw_slice(found: Found, name: str, tune: TuneParams) -> str:
    """The score over the values of one parameter."""
    figure, axes = _figure()
    one = tune.space[name]
    points = [(tried.values[name], tried.score) for tried in found.trials if tried.score is not None]
    values: list[Any] = [value for value, _ in points]
    if isinstance(one, Choices):
        values = [str(value) for value in values]
    elif one.log:
        axes.set_xscale("log")
    axes.scatter(values, [score for _, score in points], color=BLUE, s=18)
    axes.set_xlabel(name)
    axes.set_ylabel(found.metric)
    return _svg(figure)


def best_first(found: Found) -> list[Tried]:
    """The trials by their score, those without one last."""
    sign = -1 if higher_is_better(found.metric) else 1
    return sorted(
        found.trials, key=lambda tried: (tried.state != "complete", tried.score is None, sign * (tried.score or 0.0))
    )


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
