"""The service's parts put together, from settings: the one place that does it."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.types import ASGIApp

from lnmt.bundles import Bundle
from lnmt.observability.metrics import Metrics
from lnmt.params import load_params
from lnmt.plugins import load_plugins
from lnmt.runtime.predictor import Predictor
from lnmt.serving.app import create_app
from lnmt.serving.core import Core
from lnmt.serving.limits import Limits
from lnmt.serving.live import Live, Watcher
from lnmt.serving.source import StoreSource
from lnmt.settings import Settings


def build_app(
    settings: Settings, root: Path, *, host: Starlette | None = None, limits: Limits | None = None
) -> ASGIApp:
    """The service for the model that `root/params.yaml` names; nothing runs before its lifespan starts.

    `root` holds params.yaml, the plugin modules and perhaps `models/champion`: the project, or a
    bento's copy of it. State (deployments, bundles, events) is where the settings say.
    """
    limits = limits or Limits(batch_rows=settings.max_batch_size)
    params = load_params(root / "params.yaml")
    load_plugins(params.plugins, root)
    metrics = Metrics()
    cache = settings.state_dir / "engines"

    def open_predictor(bundle: Bundle) -> Predictor:
        return Predictor.open(bundle, threads=settings.threads, cache=cache)

    live = Live(StoreSource(settings, params.name, root), open_predictor, limits, metrics, params.name)
    core = Core(params.name, live, settings.events_dir, metrics, store_text=settings.store_text)
    return create_app(core, Watcher(live), limits, host=host)
