"""Register bundles, find them again, and show in MLflow what is live."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from lnmt.bundles import Bundle
from lnmt.errors import Transient
from lnmt.registry.connect import MAX_METRICS, NOT_THERE, THERE_ALREADY, connect, experiment, explained
from lnmt.registry.model import write_model
from lnmt.registry.version import BUNDLE_TAG, Version, metric_name, tags_of, version_from
from lnmt.types import Arm

ARMS: tuple[Arm, Arm] = ("champion", "challenger")
LOCK_TIMEOUT_S = 600
_GENERATION_TAG = "lnmt.generation"


class Live(Protocol):
    """What is read of a deployment."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def champion(self) -> str | None: ...
    @property
    def challenger(self) -> str | None: ...


class Registry:
    """MLflow at `tracking_uri`; models without a server's own storage go to `artifacts_dir`.

    Connects at first use. Writers on one machine take turns through a lock in `artifacts_dir`.
    """

    def __init__(self, tracking_uri: str, artifacts_dir: Path) -> None:
        self.tracking_uri = tracking_uri
        self.artifacts_dir = artifacts_dir

    @cached_property
    def client(self) -> Any:
        """The MlflowClient."""
        return connect(self.tracking_uri)

    def experiment(self, name: str) -> str:
        """The id of the experiment that holds the runs of this model; made where it is missing."""
        return experiment(self.client, name, self.artifacts_dir, self.tracking_uri)

    def register(
        self,
        bundle: Bundle,
        *,
        name: str,
        metrics: Mapping[str, float],
        input_example: Sequence[str],
        reports: Sequence[Path] = (),
    ) -> Version:
        """Make `bundle` a version of the model `name`, with its figures and lineage and no alias.

        The same bundle again gives the version that is there. `input_example`: a few texts, shown in
        MLflow; `reports`: directories that are kept with its run, under their own names. Raises Transient
        where MLflow or its database cannot be reached.
        """
        with explained(self.tracking_uri), self._lock():
            found = self.version_of(name, bundle.digest)
            if found is not None:
                return found
            return self._register(bundle, name, metrics, input_example, reports)

    def versions(self, name: str) -> list[Version]:
        """Every version of a model, oldest first; none where nothing was registered."""
        with explained(self.tracking_uri):
            return self._search(name, "")

    def version_of(self, name: str, digest: str) -> Version | None:
        """The first version of this bundle; None where it is not registered."""
        with explained(self.tracking_uri):
            found = self._search(name, f" and tag.`{BUNDLE_TAG}` = '{digest}'")
        return found[0] if found else None

    def metrics(self, version: Version) -> dict[str, float]:
        """The figures that were registered with a version."""
        with explained(self.tracking_uri):
            return dict(self.client.get_run(version.run).data.metrics)

    def project_aliases(self, deployment: Live) -> dict[Arm, int]:
        """Point MLflow's aliases champion and challenger at what is live; returns alias → version.

        An arm that is empty, or whose bundle is not registered, has no alias. Doing it again changes
        nothing, and a deployment older than the one shown is passed over.
        """
        with explained(self.tracking_uri), self._lock():
            model = self._model(deployment.name)
            if model is None:
                return {}
            present = {arm: int(model.aliases[arm]) for arm in ARMS if arm in model.aliases}
            shown = int(model.tags.get(_GENERATION_TAG, -1))
            if shown > deployment.generation:
                return present
            wanted = self._wanted(deployment)
            for arm in ARMS:
                if arm in wanted and wanted[arm] != present.get(arm):
                    self.client.set_registered_model_alias(deployment.name, arm, str(wanted[arm]))
                elif arm in present and arm not in wanted:
                    self.client.delete_registered_model_alias(deployment.name, arm)
            if shown != deployment.generation:
                self.client.set_registered_model_tag(deployment.name, _GENERATION_TAG, str(deployment.generation))
            return wanted

    def _wanted(self, deployment: Live) -> dict[Arm, int]:
        digests: dict[Arm, str | None] = {"champion": deployment.champion, "challenger": deployment.challenger}
        found = {arm: self.version_of(deployment.name, digest) for arm, digest in digests.items() if digest}
        return {arm: version.number for arm, version in found.items() if version is not None}

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.artifacts_dir.mkdir(parents=True, exist_ok=True)
        path = self.artifacts_dir / ".registry.lock"
        lock = FileLock(path, timeout=LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise Transient(
                f"another process was registering for more than {LOCK_TIMEOUT_S} s",
                where=path,
                fix="end that process, or do the same again later",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _search(self, name: str, more: str) -> list[Version]:
        model = self._model(name)
        if model is None:
            return []
        found: list[Any] = []
        page: str | None = None
        while page is None or page:
            part = self.client.search_model_versions(f"name = '{name}'{more}", page_token=page)
            found.extend(part)
            page = part.token or ""
        ours = [item for item in found if BUNDLE_TAG in item.tags]
        return sorted((version_from(item, model.aliases) for item in ours), key=lambda version: version.number)

    def _model(self, name: str) -> Any:
        """MLflow's registered model; None where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != NOT_THERE:
                raise
            return None

    def _register(
        self,
        bundle: Bundle,
        name: str,
        metrics: Mapping[str, float],
        input_example: Sequence[str],
        reports: Sequence[Path],
    ) -> Version:
        client, tags, done = self.client, tags_of(bundle), False
        title = f"{bundle.manifest.engine} {bundle.manifest.precision} {bundle.digest.removeprefix('sha256:')[:12]}"
        run = client.create_run(self.experiment(name), run_name=title, tags=tags).info
        try:
            logged = client.create_logged_model(
                run.experiment_id, name=name, source_run_id=run.run_id, tags=tags, model_type=bundle.manifest.task
            )
            self._log_figures(run.run_id, logged.model_id, metrics)
            for report in reports:
                client.log_artifacts(run.run_id, str(report), report.name)
            with tempfile.TemporaryDirectory() as directory:
                write_model(Path(directory, "model"), bundle, logged, input_example)
                client.log_model_artifacts(logged.model_id, str(Path(directory, "model")))
            client.finalize_logged_model(logged.model_id, "READY")
            self._ensure_model(name)
            # The tags come in with the row: a version without its digest is never seen.
            version = client.create_model_version(
                name, logged.artifact_location, run_id=run.run_id, model_id=logged.model_id, tags=tags
            )
            # MLflow's own functions leave this for the UI, which links a logged model to its versions by it.
            shown = json.dumps([{"name": name, "version": version.version}])
            client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": shown})
            done = True
        finally:
            client.set_terminated(run.run_id, status="FINISHED" if done else "FAILED")
        return version_from(version, {})

    def _log_figures(self, run: str, model: str, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        figures = [Metric(metric_name(key), float(value), now, 0, model_id=model) for key, value in metrics.items()]
        for start in range(0, len(figures), MAX_METRICS):
            self.client.log_batch(run, metrics=figures[start : start + MAX_METRICS])

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != THERE_ALREADY:
                raise
