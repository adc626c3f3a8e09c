"""What the Prefect UI shows of a run's results: tables, and links to the pages that stages wrote."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_table_artifact

from lnmt.drive.run import StageResult
from lnmt.files import read_json
from lnmt.settings import Settings
from tasks.policy import artifact_name


def publish_stage(result: StageResult, settings: Settings) -> None:
    """A table of the stage's outputs, a link to each page among them, and the metrics after `evaluate`."""
    name = artifact_name(result.name)
    create_table_artifact(
        key=f"{name}-outputs",
        table=[
            {"output": path, "md5": digest, "outcome": result.outcome, "seconds": result.seconds}
            for path, digest in result.outputs.items()
        ],
        description=f"{result.name}: {result.outcome} in {result.seconds:.1f} s",
    )
    for path in result.outputs:
        page = settings.project.absolute() / path / "index.html"
        if page.is_file():
            create_link_artifact(
                key=f"{name}-page", link=page.as_uri(), link_text=f"{path}/index.html", description=f"{result.name}"
            )
    if "reports/evaluation" in result.outputs:
        metrics = read_json(settings.project / "reports/evaluation/metrics.json")
        create_table_artifact(key="metrics", table=metrics_table(metrics), description="metrics on the test split")


def metrics_table(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The model and its baselines, a row each, with the figures that all of them have."""
    rows = {"this model": metrics["test"], **metrics["baselines"]}
    shared = [
        name
        for name, value in metrics["test"].items()
        if isinstance(value, float) and all(name in row for row in rows.values())
    ]
    return [{"model": name, **{figure: round(row[figure], 4) for figure in shared}} for name, row in rows.items()]
