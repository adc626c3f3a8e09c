"""reports/evaluation/index.html: one file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from lnmt.bundles import Bundle
from lnmt.params import EvaluateParams
from lnmt.training.metrics.names import SUMMARY, default_metric, higher_is_better, title
from lnmt.training.metrics.reliability import ReliabilityBin

TEMPLATE = "page.html.j2"
POINTS = 1500  # of a scatter plot, at most
UNBOUNDED = ("loss", "perplexity", "bits_per_byte", "mae", "rmse")  # metrics that may be above 1


def render_page(
    *,
    bundle: Bundle,
    metrics: Mapping[str, Any],
    verdict: Mapping[str, Any],
    slice_metric: str,
    bins: Mapping[str, Sequence[ReliabilityBin]],
    scatter: Sequence[tuple[float, float]],
    options: EvaluateParams,
) -> str:
    """The page of what metrics.json, verdict.json, reliability.csv and scatter.csv hold.

    `bins` has `before` and `after`; these and `scatter` may be empty.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["title"] = title
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    environment.filters["percent"] = lambda value: f"{100 * value:.2f}%"
    environment.filters["interval"] = lambda ends: f"{ends[0]:.3f} … {ends[1]:.3f}".replace("-", "−")
    template = environment.from_string(files("lnmt.training.evaluation").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    task = bundle.manifest.task
    headline = default_metric(task)
    contenders = _contenders(metrics, headline)
    return template.render(
        bundle=bundle.digest,
        manifest=bundle.manifest,
        metrics=metrics,
        verdict=verdict,
        bins={name: [asdict(entry) for entry in entries] for name, entries in bins.items()},
        scatter=_scatter(scatter),
        options=options,
        headline=headline,
        summary=[name for name in SUMMARY[task] if name != headline],
        slice_metric=slice_metric,
        slice_names=SUMMARY[task],
        higher=higher_is_better,
        contenders=contenders,
        scale=_scale(headline, [entry["interval"] for entry in contenders]),
        slice_scale=_scale(slice_metric, [part["intervals"][slice_metric] for part in metrics["slices"]]),
        confusion=_confusion(metrics["test"].get("confusion", [])),
    )


def _contenders(metrics: Mapping[str, Any], headline: str) -> list[dict[str, Any]]:
    """The model, then the baselines, best first: what the headline's bars show."""
    own = metrics["test"]
    model = {"name": "model", "value": own[headline], "interval": own["intervals"][headline], "gain": None}
    others = [
        {
            "name": name,
            "value": found[headline],
            "interval": found["intervals"][headline],
            "gain": found[f"gain_{headline}"],
            "gain_interval": found["intervals"][f"gain_{headline}"],
        }
        for name, found in metrics["baselines"].items()
    ]
    return [model, *sorted(others, key=lambda entry: float(entry["gain"]))]


def _scale(name: str, intervals: Sequence[Sequence[float]]) -> float:
    """What the right end of a metric's bars stands for."""
    return max((high for _, high in intervals), default=1.0) or 1.0 if name in UNBOUNDED else 1.0


def _scatter(pairs: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """At most POINTS of (actual, predicted), evenly chosen, and the span of both."""
    if not pairs:
        return None
    values = [value for pair in pairs for value in pair]
    low, high = min(values), max(values)
    return {"low": low, "high": high, "span": (high - low) or 1.0, "points": pairs[:: -(-len(pairs) // POINTS)]}


def _confusion(counts: Sequence[Sequence[int]]) -> list[list[dict[str, float]]]:
    """Each cell's rows, and its share of the actual label's rows: the shade."""
    return [[{"rows": value, "share": value / max(sum(row), 1)} for value in row] for row in counts]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")
