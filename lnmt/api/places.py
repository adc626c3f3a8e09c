"""Where the API finds things: the shipped parameters, the settings, the project's models."""

from __future__ import annotations

import importlib.resources
from functools import cache
from pathlib import Path

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles.store import DIGEST
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Params, load_params
from lnmt.settings import Settings, find_project, load_settings


def shipped_file() -> Path:
    """The params.yaml that ships with LNMT."""
    return Path(str(importlib.resources.files("lnmt") / "template" / "params.yaml"))


@cache
def shipped_params() -> Params:
    """Its content: what a caller does not say."""
    return load_params(shipped_file())


def settings_here() -> Settings:
    """The settings of the project at or above the working directory; without one, those of the environment."""
    try:
        find_project(Path.cwd())
    except LnmtError:
        return Settings()
    return load_settings()


def open_bundle(name: str | Path) -> Bundle:
    """The bundle at a directory, of a digest in the project's store, or of a registered model's name.

    Of a registered model the champion is opened; without a release, its newest version. Raises
    UnknownName where there is no such thing.
    """
    path = Path(name)
    if path.is_dir():
        return Bundle.open(path)
    settings = settings_here()
    store = BundleStore(settings.bundles_dir)
    known = registered(settings)
    digest = str(name) if DIGEST.fullmatch(str(name)) else known.get(str(name))
    if digest is None:
        raise UnknownName(
            "model", str(name), known, where=f"no such directory, and none registered in {settings.state_dir}"
        )
    return store.open(digest)


def registered(settings: Settings) -> dict[str, str]:
    """Name → bundle digest of every model of the project: what is live, else its newest registered version."""
    found = _newest_versions(settings)
    if _is_there(settings.database_url):
        from lnmt.rollout.table import DeploymentStore

        with DeploymentStore(settings.database_url) as deployments:
            for name in deployments.names():
                row = deployments.read(name)
                if row is not None and row.champion is not None:
                    found[name] = row.champion
    return found


def _newest_versions(settings: Settings) -> dict[str, str]:
    """Of the project's own model; MLflow is asked only where it was ever used."""
    source = settings.project / "params.yaml"
    if not source.is_file() or not _is_there(settings.tracking_uri):
        return {}
    from lnmt.registry import Registry

    name = load_params(source).name
    versions = Registry(settings.tracking_uri, settings.state_dir / "mlflow").versions(name)
    return {name: versions[-1].bundle} if versions else {}


def _is_there(url: str) -> bool:
    """Looking makes no database: a SQLite file that is not there yet holds nothing."""
    path = url.removeprefix("sqlite:///")
    return path == url or Path(path).exists()
