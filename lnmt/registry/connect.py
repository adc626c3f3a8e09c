"""MLflow's client, quiet and with our errors. All of mlflow is imported on the first call."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError, Transient
from lnmt.store import share_sqlite

MAX_METRICS = 1000  # that MLflow takes in one call
# The state of a thing that is not there, or is there already: never an accident.
NOT_THERE, THERE_ALREADY = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
_RETRY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "ABORTED"}


def connect(tracking_uri: str) -> Any:
    """An MlflowClient for tracking and registry. A SQLite database is made where there is none (seconds)."""
    if tracking_uri.startswith("sqlite:"):
        share_sqlite(tracking_uri)
    with explained(tracking_uri), quietly():
        from mlflow import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # its news on tables and examples are not ours
            logging.getLogger("mlflow").setLevel(logging.WARNING)
        # With a server it writes addresses to stdout, which belongs to --json; there is no other way to ask.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        client = MlflowClient(tracking_uri, tracking_uri)
        # Both stores are opened and their tables mapped by the first question, with warnings about SQLAlchemy.
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        return client


def experiment(client: Any, name: str, artifacts_dir: Path, tracking_uri: str) -> str:
    """The id of the experiment `name`, made where it is missing; safe with several processes at once.

    A tracking server keeps artifacts where it was told to; without one they go to `artifacts_dir`.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = None if tracking_uri.startswith(("http:", "https:")) else artifacts_dir.absolute().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != THERE_ALREADY:
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise LnmtError(
            "the experiment was deleted in MLflow",
            where=tracking_uri,
            value=name,
            fix=f"restore it: mlflow experiments restore --experiment-id {found.experiment_id}",
        )
    return str(found.experiment_id)


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings that MLflow gives about itself, its imports and what it was not asked to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def explained(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's failures into ours."""
    with quietly():
        from mlflow.exceptions import MlflowException
    try:
        yield
    except MlflowException as error:
        unreachable = "API request to" in error.message  # carries no code of its own
        kind = Transient if unreachable or error.error_code in _RETRY else LnmtError
        shown = _without_password(tracking_uri)
        raise kind(
            "MLflow refused",
            where=shown,
            value=f"{error.error_code}: {error.message.replace(tracking_uri, shown)}",
            fix="check LNMT_TRACKING, and that the server or its database is there; then do the same again",
        ) from error


def _without_password(uri: str) -> str:
    from sqlalchemy import exc, make_url

    try:
        return make_url(uri).render_as_string(hide_password=True)
    except exc.ArgumentError:
        return uri
