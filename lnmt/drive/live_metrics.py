"""What a running stage measures, in MLflow as it comes: one place for every driver."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from lnmt.params import load_params
from lnmt.registry import Registry, mirroring
from lnmt.settings import Settings

FOLLOWED = "LNMT_FOLLOWED"  # set in a stage's environment by the driver that mirrors its metrics


def live_metrics(name: str, settings: Settings) -> AbstractContextManager[object]:
    """While entered, the metrics that stage `name` writes to its progress file go to MLflow.

    A stage that writes none leaves no run, and MLflow is not even imported.
    """
    registry = Registry(settings.tracking_uri, settings.state_dir / "mlflow")
    progress = settings.state_dir / "progress" / f"{name}.jsonl"
    model = load_params(settings.project / "params.yaml").name
    return mirroring(progress, registry, name=model, title=name)


def own_live_metrics(name: str, settings: Settings) -> AbstractContextManager[object]:
    """The same inside the stage's process, where no driver above does it: `dvc repro` by hand."""
    return nullcontext() if FOLLOWED in os.environ else live_metrics(name, settings)
