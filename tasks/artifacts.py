"""What the Prefect UI shows of a run's results: tables, and links to the pages that stages wrote."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_table_artifact

from lnmt.drive.run import StageResult
from lnmt.files import read_json
from lnmt.settings import Settings
from tasks.policy import artifact_name


def publish_stage(result: StageResult, settings: Settings) -> None:
    """A table of the stage's outputs, a link to each page among them; metrics, and the engines' Pareto front."""
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
    if "reports/optimization" in result.outputs:
        engines = read_json(settings.project / "reports/optimization/measurements.json")
        create_table_artifact(key="pareto-front", table=pareto_table(engines), description=engines["why"])


def pareto_table(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The engines that none beats in speed, quality and size, a row each, the fastest first."""
    size = str(document["options"]["objective"]["batch_size"])
    entries = [entry for entry in document["measurements"] if entry["name"] in document["pareto"]]
    rows = [
        {
            "engine": entry["name"],
            "outcome": entry["outcome"],
            "speed-up": round(entry["latency"][size]["p50"]["speedup"], 2),
            f"ms, batch {size}": round(entry["latency"][size]["p50"]["ms"], 3),
            f"{entry['parity']['metric']} lost": round(entry["parity"]["metric_loss"], 5),
            "MB": entry["megabytes"],
        }
        for entry in entries
    ]
    return sorted(rows, key=lambda row: -row["speed-up"])


def metrics_table(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The model and its baselines, a row each, with the figures that all of them have."""
    rows = {"this model": metrics["test"], **metrics["baselines"]}
    shared = [
        name
        for name, value in metrics["test"].items()
        if isinstance(value, float) and all(name in row for row in rows.values())
    ]
    return [{"model": name, **{figure: round(row[figure], 4) for figure in shared}} for name, row in rows.items()]
