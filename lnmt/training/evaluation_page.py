"""reports/evaluation/index.html: one file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from lnmt.bundles import Manifest
from lnmt.params import EvaluateParams

TEMPLATE = "evaluation_page.html.j2"


def render_page(
    *,
    labels: Sequence[str],
    bundle: str,
    manifest: Manifest,
    metrics: Mapping[str, Any],
    verdict: Mapping[str, Any],
    bins: Mapping[str, Sequence[Mapping[str, Any]]],
    options: EvaluateParams,
) -> str:
    """The page of what metrics.json, verdict.json and reliability.csv hold. `bins` has `before` and `after`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    environment.filters["percent"] = lambda value: f"{100 * value:.2f}%"
    environment.filters["interval"] = lambda ends: f"{ends[0]:.3f} … {ends[1]:.3f}".replace("-", "−")
    template = environment.from_string(files("lnmt.training").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        labels=labels,
        bundle=bundle,
        manifest=manifest,
        metrics=metrics,
        verdict=verdict,
        bins=bins,
        options=options,
        contenders=_contenders(metrics),
        confusion=_confusion(metrics["test"]["confusion"]),
    )


def _contenders(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model, then the baselines, best first: what the headline's bars show."""
    own = metrics["test"]
    model = {"name": "model", "macro_f1": own["macro_f1"], "interval": own["intervals"]["macro_f1"], "gain": None}
    others = [
        {
            "name": name,
            "macro_f1": found["macro_f1"],
            "interval": found["intervals"]["macro_f1"],
            "gain": found["gain_macro_f1"],
            "gain_interval": found["intervals"]["gain_macro_f1"],
        }
        for name, found in metrics["baselines"].items()
    ]
    return [model, *sorted(others, key=lambda entry: -float(entry["macro_f1"]))]


def _confusion(counts: Sequence[Sequence[int]]) -> list[list[dict[str, float]]]:
    """Each cell's rows, and its share of the actual label's rows: the shade."""
    return [[{"rows": value, "share": value / max(sum(row), 1)} for value in row] for row in counts]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")
