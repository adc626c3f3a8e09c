"""`lnmt tune`: batch size, learning rate, and a search over parameters of training."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnmt.cli.output import AsJson, Project, show

if TYPE_CHECKING:
    from lnmt.tuning.search import Found


class What(StrEnum):
    """What is looked for."""

    search = "search"
    batch_size = "batch-size"
    learning_rate = "learning-rate"


def tune(
    what: Annotated[
        What, typer.Argument(help="The search of params.yaml: tune, or one of the two finders.")
    ] = What.search,
    workers: Annotated[int, typer.Option(min=1, help="Processes that search side by side, cores shared.")] = 1,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Find good parameters of training on data/processed; a search that was stopped goes on when called again."""
    from dataclasses import asdict

    from lnmt.drive import tune as tuning
    from lnmt.progress import Progress
    from lnmt.settings import load_settings

    settings = load_settings(project)
    progress = Progress(settings.state_dir / "progress" / "tune.jsonl")
    found: Any
    if what is What.batch_size:
        found = tuning.batch_size(settings, progress)
        lines = [
            f"{trial.batch_size:5d}  "
            + (f"{trial.samples_per_s:8.1f} samples/s" if trial.samples_per_s else "does not fit")
            for trial in found.trials
        ]
        text = "\n".join([*lines, f"fastest {found.fastest}, largest that fits {found.largest}: train.batch_size"])
    elif what is What.learning_rate:
        found = tuning.learning_rate(settings, progress)
        text = f"suggested train.optimizer.lr: {found.suggested:.2g} (reports/tuning/learning-rate.svg)"
    else:
        found = tuning.search(settings, progress, workers=workers)
        text = _told(found)
    show(asdict(found), text, as_json=as_json)


def _told(found: Found) -> str:
    from lnmt.tuning.report import best_first
    from lnmt.tuning.search import told

    lines = [
        f"{tried.number:4d}  {tried.state:8s}  {_score(tried.score)}  {told(tried.values)}"
        for tried in best_first(found)
    ]
    best = (
        f"best {found.metric} {found.best.score:.4f}: {told(found.best.values)}"
        if found.best
        else "no trial is complete"
    )
    return "\n".join([*lines, best, "reports/tuning/search/index.html shows them"])


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
