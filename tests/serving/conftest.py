"""The real app on real tiny bundles; what is live is set by hand, and looked at when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.monitoring.events import PredictionEvent, read_events
from lnmt.observability.metrics import Metrics
from lnmt.params import Plugin
from lnmt.rollout.deployment import Deployment, Phase
from lnmt.runtime.predictor import Predictor
from lnmt.serving.admission import Admission
from lnmt.serving.app import Handlers, create_app
from lnmt.serving.cache import ResponseCache
from lnmt.serving.catalogue import Catalogue
from lnmt.serving.core import Core
from lnmt.serving.lifecycle import Lifecycle
from lnmt.serving.limits import Limits
from lnmt.serving.live import Live
from lnmt.serving.postprocessors import open_postprocessors
from lnmt.serving.predictions import Predictions
from tests.tiny_bundle import tiny_bundle

NAME = "sentiment"


@dataclass
class FakeSource:
    """A deployment and bundles in memory."""

    wanted: Deployment | None = None
    bundles: dict[str, Bundle] = field(default_factory=dict)
    failure: Exception | None = None

    def deployment(self) -> Deployment | None:
        if self.failure is not None:
            raise self.failure
        return self.wanted

    def bundle(self, digest: str) -> Bundle:
        if digest not in self.bundles:
            raise LnmtError("no such bundle in the store", where="memory", fix="put it there")
        return Bundle.open(self.bundles[digest].path, expect=digest)

    def close(self) -> None: ...


@dataclass
class Kit:
    """A service and what is behind it."""

    source: FakeSource
    live: Live
    core: Core
    predictions: Predictions
    metrics: Metrics
    events_dir: Path
    handlers: Handlers
    app: ASGIApp
    client: TestClient

    def events(self) -> list[PredictionEvent]:
        return list(read_events(self.events_dir))

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def release(self, generation: int, champion: Bundle, challenger: Bundle | None = None, share: float = 0.0) -> bool:
        """Make this the deployment, and look at it; True where it was switched in."""
        for bundle in filter(None, (champion, challenger)):
            self.source.bundles.setdefault(bundle.digest, bundle)
        phase: Phase = "canary" if challenger else "promoted"
        second = challenger.digest if challenger else None
        self.source.wanted = Deployment(NAME, generation, phase, champion.digest, second, share, 0.0, "test")
        return self.live.refresh()


MakeKit = Callable[..., Kit]


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("champion") / "bundle", seed=0)


@pytest.fixture(scope="session")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("challenger") / "bundle", seed=1)


@pytest.fixture(scope="session")
def predictors() -> Iterator[Callable[[Bundle], Predictor]]:
    """Opens each bundle once a session; closing is left to the end of it."""
    opened: dict[str, Predictor] = {}

    class Kept(Predictor):
        def close(self) -> None:
            pass

    def open_predictor(bundle: Bundle) -> Predictor:
        if bundle.digest not in opened:
            opened[bundle.digest] = Kept.open(bundle, threads=1)
        return opened[bundle.digest]

    yield open_predictor
    for predictor in opened.values():
        predictor.engine.close()


@pytest.fixture
def make_kit(tmp_path: Path, predictors: Callable[[Bundle], Predictor]) -> Iterator[MakeKit]:
    kits: list[Kit] = []

    def make(
        limits: Limits | None = None,
        *,
        store_text: bool = False,
        open_predictor: Callable[[Bundle], Predictor] = predictors,
        cache: ResponseCache | None = None,
        postprocessors: Sequence[dict[str, Any]] = (),
    ) -> Kit:
        limits = limits or Limits()
        source, metrics, events = FakeSource(), Metrics(), tmp_path / "events"
        live = Live(source, open_predictor, limits, metrics, NAME)
        predictions = Predictions(events, f"sqlite:///{tmp_path / 'lnmt.db'}", metrics, keep_text=store_text)
        chain = open_postprocessors([Plugin(**one) for one in postprocessors])
        core = Core(NAME, live, predictions, metrics, cache=cache, postprocessors=chain, seed=7)
        catalogue = Catalogue(NAME, lambda name: core, list, interval_s=3600)
        handlers = Handlers(catalogue, predictions, limits, Admission(), Lifecycle())
        app = create_app(handlers)
        kits.append(Kit(source, live, core, predictions, metrics, events, handlers, app, TestClient(app)))
        return kits[-1]

    yield make
    for kit in kits:
        kit.live.close(10)
        kit.predictions.stop(10)
        kit.metrics.close()


@pytest.fixture
def kit(make_kit: MakeKit, champion: Bundle) -> Kit:
    """A service with the champion live as generation 1."""
    kit = make_kit()
    assert kit.release(1, champion)
    return kit


def wait_until(true: Callable[[], bool]) -> None:
    """Until another thread got there; the suite's own timeout bounds it."""
    while not true():
        threading.Event().wait(0.001)


class Broken:
    """An engine around another one: fails on batches in which a row has one of these token ids."""

    def __init__(self, inner: Predictor, poison: int) -> None:
        self._engine = inner.engine
        self.poison = poison
        self.batches: list[int] = []

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        raise AssertionError("it is loaded")

    def warm_up(self) -> None:
        self._engine.warm_up()

    def infer(self, batch):  # type: ignore[no-untyped-def]
        self.batches.append(len(batch.input_ids))
        if (batch.input_ids == self.poison).any():
            raise ValueError("poison, with the words of a request: very private")
        return self._engine.infer(batch)

    def close(self) -> None:
        pass


@pytest.fixture
def broken() -> Callable[[Bundle], Predictor]:
    """Opens predictors that fail on the word "awful"."""
    return lambda bundle: with_engine(bundle, lambda inner: Broken(inner, poison=inner.encode(["awful"])[0][1]))


def with_engine(bundle: Bundle, engine: Callable[[Predictor], Broken]) -> Predictor:
    """A predictor of the bundle with its engine wrapped."""
    inner = Predictor.open(bundle, threads=1)
    return Predictor(bundle, engine(inner))
