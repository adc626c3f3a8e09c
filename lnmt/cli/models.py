"""Commands about versions and their answers: register, models, predict, trace."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnmt.cli.output import AsJson, Project, show, table

if TYPE_CHECKING:
    from lnmt.registry import Version


class Which(StrEnum):
    """Bundles that the pipeline makes."""

    optimized = "optimized"
    reference = "reference"


def register(
    which: Annotated[Which, typer.Argument(help="The bundle of the pipeline.")] = Which.optimized,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make the pipeline's bundle a model version."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        version = actions.register(live, which.value)
    text = f"{version.name} version {version.number}: {version.engine} {version.precision}, {version.bundle}"
    show(_as_json(version), text, as_json=as_json)


def models(project: Project = None, as_json: AsJson = False) -> None:
    """List the model's versions, and which of them are live."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        versions = live.registry.versions(live.name)
        state = live.deployments.read(live.name)
    arms = {state.champion: "champion", state.challenger: f"challenger {state.share:.0%}"} if state else {}
    rows = [
        (
            version.number,
            f"{version.engine} {version.precision}",
            version.bundle[:19],
            (version.lineage.commit or "no commit")[:12] + ("*" if version.lineage.dirty else ""),
            arms.get(version.bundle, ""),
        )
        for version in versions
    ]
    lines = table(["version", "engine", "bundle", "commit", "live"], rows) if rows else ["no version is registered"]
    value = [{**_as_json(version), "live": arms.get(version.bundle)} for version in versions]
    show(value, lines, as_json=as_json)


def predict(
    source: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet file of any size.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; .csv, .jsonl or .parquet.")],
    text: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    bundle: Annotated[
        str | None,
        typer.Option(
            help="optimized, reference, a version number or a digest; default the champion, or models/optimized "
            "for a task that is not served."
        ),
    ] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows in memory at a time.")] = 1024,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Answer every row of a file with the champion, or with --bundle; goes on after a crash."""
    from dataclasses import asdict

    from lnmt.drive import actions
    from lnmt.progress import Progress
    from lnmt.settings import load_settings

    settings = load_settings(project)
    progress = Progress(settings.state_dir / "progress" / "predict.jsonl")
    with actions.open_live(settings) as live:
        done = actions.predict(
            live, source, out, text_column=text, bundle=bundle, batch_rows=batch_rows, progress=progress
        )
    resumed = f", {done.resumed} of them by an earlier run" if done.resumed else ""
    show(asdict(done), f"{done.rows} rows, {done.errors} without an answer{resumed}: {out}", as_json=as_json)


def trace(
    prediction: Annotated[str, typer.Argument(metavar="ID", help="x-lnmt-prediction-id of a reply.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Follow an answer back to version, data and commit."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings
    from lnmt.trace import render

    with actions.open_live(load_settings(project)) as live:
        found = actions.trace(live, prediction)
    show(found.as_dict(), render(found), as_json=as_json)


def _as_json(version: Version) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(version), "lineage": version.lineage.model_dump(mode="json")}
