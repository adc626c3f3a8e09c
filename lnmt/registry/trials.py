"""A search's trials as MLflow runs, side by side in one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lnmt.registry.connect import explained
from lnmt.registry.registry import Registry
from lnmt.registry.version import metric_name


def log_trial(
    registry: Registry,
    *,
    name: str,
    study: str,
    number: int,
    state: str,
    values: Mapping[str, Any],
    metric: str,
    curve: Sequence[tuple[int, float]],
    score: float | None,
) -> str:
    """Write one ended trial to the experiment of the model `name`; returns the run's id.

    Raises Transient where MLflow cannot be reached.
    """
    with explained(registry.tracking_uri):
        from mlflow.entities import Metric, Param, RunTag

        client = registry.client
        tags = {"lnmt.study": study, "lnmt.trial": str(number), "lnmt.state": state}
        run = str(client.create_run(registry.experiment(name), run_name=f"{study} #{number}", tags=tags).info.run_id)
        figures = [Metric(metric_name(metric), value, 0, step) for step, value in curve]
        if score is not None:
            figures.append(Metric(metric_name(f"best.{metric}"), score, 0, 0))
        client.log_batch(
            run, metrics=figures, params=[Param(key, str(value)) for key, value in values.items()], tags=list[RunTag]()
        )
        client.set_terminated(run, status="FINISHED" if state == "complete" else "KILLED")
        return run
