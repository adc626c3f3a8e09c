"""Where the service finds what to serve: the deployment store and the bundle store; else the packed champion."""

from __future__ import annotations

from pathlib import Path

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles.packed import packed_champion
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.settings import Settings

_SQLITE = "sqlite:///"


class StoreSource:
    """The deployment's row of model `name`; without one, `models/champion` below `root` as generation 0.

    No `root` for a model that is not the service's own: nothing is packed for it.
    """

    def __init__(self, settings: Settings, name: str, root: Path | None) -> None:
        self._name = name
        self._url = settings.database_url
        self._root = root
        self._bundles = BundleStore(settings.bundles_dir)
        self._deployments: DeploymentStore | None = None
        self._packed: Bundle | None = None

    def deployment(self) -> Deployment | None:
        """The row that is live now; generation 0 where there is none but a packed champion."""
        row = self._row()
        if row is not None and row.champion is not None:
            return row
        packed = self._champion()
        if packed is None:
            return None
        return Deployment(self._name, 0, "idle", packed.digest, None, 0.0, 0.0, "packed with the service")

    def bundle(self, digest: str) -> Bundle:
        """The bundle from the store; where that lacks it, the packed one of the same digest."""
        if not self._bundles.path(digest).exists():
            packed = self._champion()
            if packed is not None and packed.digest == digest:
                return Bundle.open(packed.path, expect=digest)
        return self._bundles.open(digest)

    def names(self) -> list[str]:
        """Every model that has a deployment in the store."""
        deployments = self._store()
        return [] if deployments is None else deployments.names()

    def close(self) -> None:
        """Close the database."""
        if self._deployments is not None:
            self._deployments.close()

    def _champion(self) -> Bundle | None:
        if self._packed is None and self._root is not None:
            self._packed = packed_champion(self._root)
        return self._packed

    def _row(self) -> Deployment | None:
        deployments = self._store()
        return None if deployments is None else deployments.read(self._name)

    def _store(self) -> DeploymentStore | None:
        if self._deployments is None and self._exists():
            self._deployments = DeploymentStore(self._url)
        return self._deployments

    def _exists(self) -> bool:
        """A service makes no database: a SQLite file that is not there yet has no deployment."""
        path = self._url.removeprefix(_SQLITE)
        return path == self._url or Path(path).exists()
