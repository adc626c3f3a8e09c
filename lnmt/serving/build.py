"""The service's parts put together, from settings: the one place that does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.types import ASGIApp

from lnmt.bundles import Bundle
from lnmt.observability.metrics import Metrics
from lnmt.params import load_params
from lnmt.plugins import load_plugins
from lnmt.runtime.predictor import Predictor
from lnmt.security.binding import needs_keys
from lnmt.security.keyring import STALE_S, Keyring
from lnmt.security.peppers import open_peppers
from lnmt.security.table import KeyTable
from lnmt.serving.admission import Admission
from lnmt.serving.app import Background, Handlers, create_app
from lnmt.serving.cache import CacheEvent, ResponseCache
from lnmt.serving.catalogue import Bounds, Catalogue
from lnmt.serving.core import Core
from lnmt.serving.lifecycle import Lifecycle
from lnmt.serving.limits import Limits
from lnmt.serving.live import Live
from lnmt.serving.postprocessors import Postprocessors, open_postprocessors
from lnmt.serving.predictions import Predictions
from lnmt.serving.problems import Problem
from lnmt.serving.rate.bucket import Rate, RateLimiter
from lnmt.serving.rate.shared import open_limiter
from lnmt.serving.source import StoreSource
from lnmt.settings import Settings

DAY_S = 86_400.0


def build_app(
    settings: Settings,
    root: Path,
    *,
    host: Starlette | None = None,
    limits: Limits | None = None,
    lifecycle: Lifecycle | None = None,
) -> ASGIApp:
    """The service for the model that `root/params.yaml` names; nothing runs before its lifespan starts.

    `root` holds params.yaml, the plugin modules and perhaps `models/champion`: the project, or a
    bento's copy of it. State (deployments, bundles, events) is where the settings say.
    """
    limits = limits or limits_of(settings)
    params = load_params(root / "params.yaml")
    load_plugins(params.plugins, root)
    postprocessors = open_postprocessors(params.serve.postprocessors)
    metrics = Metrics(settings.core_hour_price)
    predictions = _open_predictions(settings, metrics)
    limiter, cache, keyring = _open_limiter(settings, metrics), _open_cache(settings, metrics), _open_keyring(settings)
    catalogue = _open_catalogue(settings, params.name, root, limits, metrics, predictions, cache, postprocessors)
    rate = None if settings.rate is None else Rate.of(settings.rate, settings.rate_burst)
    checks = [partial(_check_fresh, "deployments", lambda: catalogue.own.live.stale_s)]
    background: list[Background] = [predictions]
    if keyring is not None:
        checks.append(partial(_check_fresh, "API keys", lambda: keyring.stale_s))
        background.append(keyring)
    handlers = Handlers(
        catalogue, predictions, limits, Admission(keyring, limiter, rate), lifecycle or Lifecycle(), checks
    )
    handlers.lifecycle.ready_when(handlers.check_ready)
    closing = [limiter.close, *([] if cache is None else [cache.close])]
    return create_app(handlers, background=background, closing=closing, host=host)


def limits_of(settings: Settings) -> Limits:
    """The limits that settings name; the others as they stand."""
    return Limits(
        batch_rows=settings.max_batch_size,
        batch_tokens=settings.max_batch_tokens,
        max_wait_s=settings.max_latency_ms / 1000,
        waiting_rows=settings.max_waiting_rows,
        queue_s=settings.max_queue_ms / 1000,
        timeout_s=settings.request_timeout_s,
    )


def _open_predictions(settings: Settings, metrics: Metrics) -> Predictions:
    keep_s = None if settings.events_days is None else settings.events_days * DAY_S
    return Predictions(
        settings.events_dir, settings.database_url, metrics, keep_text=settings.store_text, keep_s=keep_s
    )


def _open_limiter(settings: Settings, metrics: Metrics) -> RateLimiter:
    store = settings.rate_store or f"sqlite:///{settings.state_dir / 'rates.db'}"
    return open_limiter(store, on_fallback=metrics.rate_fallbacks.inc)


def _open_cache(settings: Settings, metrics: Metrics) -> ResponseCache | None:
    """Raises LnmtError where Redis is asked for and its client is not installed."""
    if settings.response_cache is None:
        return None

    def count(event: CacheEvent) -> None:
        metrics.cache_events.labels(event).inc()

    if settings.response_cache == "memory":
        from lnmt.serving.cache.memory import MemoryCache

        return MemoryCache(settings.response_cache_bytes, count)
    from lnmt.serving.cache.redis import RedisCache

    return RedisCache(settings.response_cache, ttl_s=settings.response_cache_s, count=count)


def _open_keyring(settings: Settings) -> Keyring | None:
    """None where callers need no key."""
    if not needs_keys(settings.host, settings.auth):
        return None
    return Keyring(KeyTable(settings.database_url), open_peppers(settings.pepper, settings.state_dir))


def _open_catalogue(
    settings: Settings,
    name: str,
    root: Path,
    limits: Limits,
    metrics: Metrics,
    predictions: Predictions,
    cache: ResponseCache | None,
    postprocessors: Postprocessors | None,
) -> Catalogue:
    engines = settings.state_dir / "engines"

    def open_predictor(bundle: Bundle) -> Predictor:
        return Predictor.open(bundle, threads=settings.threads, cache=engines)

    def open_core(model: str) -> Core:
        source = StoreSource(settings, model, root if model == name else None)
        live = Live(source, open_predictor, limits, metrics, model)
        return Core(model, live, predictions, metrics, cache=cache, postprocessors=postprocessors)

    names = StoreSource(settings, name, None).names
    return Catalogue(name, open_core, names, Bounds(settings.model_bytes, settings.idle_s))


def _check_fresh(what: str, stale_s: Callable[[], float]) -> None:
    """Raise Problem 503 where the database did not answer for so long that others should get the traffic."""
    if stale_s() > STALE_S:
        fix = "the database must answer; the service's log says more"
        raise Problem(503, f"the {what} could not be read for {STALE_S:g} s", where="database", fix=fix)
