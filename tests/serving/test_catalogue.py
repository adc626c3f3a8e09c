"""Several models in one service: real tiny engines, a store in memory."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lnmt.bundles import Bundle
from lnmt.observability.metrics import Metrics
from lnmt.rollout.deployment import Deployment
from lnmt.runtime.predictor import Predictor
from lnmt.serving.catalogue import NO_BOUNDS, Bounds, Catalogue
from lnmt.serving.core import Core
from lnmt.serving.limits import Limits
from lnmt.serving.live import Live
from lnmt.serving.predictions import Predictions
from lnmt.serving.problems import Problem
from tests.serving.conftest import FakeSource, wait_until

Make = Callable[..., Catalogue]


class Store:
    """Deployments by model, and how often each one's bundle was opened."""

    def __init__(self, bundles: dict[str, Bundle]) -> None:
        self.sources = {
            name: FakeSource(
                Deployment(name, 1, "promoted", bundle.digest, None, 0.0, 0.0, ""), {bundle.digest: bundle}
            )
            for name, bundle in bundles.items()
        }
        self.opened: list[str] = []
        self.asked = 0
        self.go = threading.Event()
        self.go.set()

    def names(self) -> list[str]:
        self.asked += 1
        return list(self.sources)


@pytest.fixture
def store(champion: Bundle, challenger: Bundle) -> Store:
    return Store({"own": champion, "first": challenger, "second": challenger, "third": challenger})


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Iterator[Make]:
    made: list[Catalogue] = []
    metrics = Metrics()
    predictions = Predictions(tmp_path / "events", f"sqlite:///{tmp_path / 'lnmt.db'}", metrics)

    def open_core(name: str) -> Core:
        def open_predictor(bundle: Bundle) -> Predictor:
            assert store.go.wait(30)
            store.opened.append(name)
            return Predictor.open(bundle, threads=1)

        live = Live(store.sources[name], open_predictor, Limits(), metrics, name)
        return Core(name, live, predictions, metrics)

    def build(bounds: Bounds = NO_BOUNDS) -> Catalogue:
        made.append(Catalogue("own", open_core, store.names, bounds, interval_s=0.01))
        made[-1].start()
        return made[-1]

    yield build
    for catalogue in made:
        catalogue.close(30)


def core(catalogue: Catalogue, name: str, deadline: float = math.inf) -> Core:
    return asyncio.run(catalogue.core(name, deadline))


def states(catalogue: Catalogue) -> dict[str, str]:
    return {listed.name: listed.state for listed in catalogue.listed()}


def test_a_model_is_loaded_when_it_is_asked_for(make: Make, store: Store) -> None:
    catalogue = make()
    wait_until(lambda: states(catalogue)["own"] == "ready")
    assert states(catalogue) == {"own": "ready", "first": "cold", "second": "cold", "third": "cold"}
    [answer] = asyncio.run(core(catalogue, "first").predict(["okay"], None))
    assert answer.version == store.sources["first"].wanted.champion  # type: ignore[union-attr]
    assert states(catalogue)["first"] == "ready"
    assert store.opened == ["own", "first"]


def test_many_wait_for_one_loading(make: Make, store: Store) -> None:
    catalogue = make()
    wait_until(lambda: store.opened == ["own"])
    store.go.clear()

    async def crowd() -> list[Core]:
        waiting = [asyncio.create_task(catalogue.core("first", math.inf)) for _ in range(20)]
        await asyncio.sleep(0)
        assert states(catalogue)["first"] in ("cold", "loading")
        store.go.set()
        return await asyncio.gather(*waiting)

    found = asyncio.run(crowd())
    assert len({id(one) for one in found}) == 1
    assert store.opened == ["own", "first"]


def test_the_line_before_a_cold_model_is_bounded(make: Make, store: Store) -> None:
    catalogue = make(Bounds(waiting=3))
    wait_until(lambda: store.opened == ["own"])
    store.go.clear()

    async def crowd() -> list[object]:
        waiting = [asyncio.create_task(catalogue.core("first", math.inf)) for _ in range(5)]
        while sum(task.done() for task in waiting) < 2:
            await asyncio.sleep(0.001)
        store.go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(crowd())
    assert sorted(one.status if isinstance(one, Problem) else 200 for one in found) == [200, 200, 200, 503, 503]


def test_a_deadline_holds_while_it_loads(make: Make, store: Store) -> None:
    catalogue = make()
    wait_until(lambda: store.opened == ["own"])
    store.go.clear()
    with pytest.raises(Problem, match="not loaded in time") as refused:
        core(catalogue, "first", time.monotonic() + 0.01)
    store.go.set()
    assert refused.value.status == 504
    assert core(catalogue, "first").name == "first"  # the loading went on


def test_an_unknown_name_is_refused_and_hardly_asks_the_store(make: Make, store: Store) -> None:
    catalogue = make()
    for _ in range(50):
        with pytest.raises(Problem, match="unknown model") as refused:
            core(catalogue, "absent")
    assert refused.value.status == 404
    assert store.asked <= 2


def test_the_longest_unused_gives_way(make: Make, challenger: Bundle) -> None:
    size = sum(file.stat().st_size for file in challenger.path.rglob("*") if file.is_file())
    catalogue = make(Bounds(bytes=2 * size))
    for name in ("first", "second", "first", "third"):
        core(catalogue, name)
    wait_until(lambda: states(catalogue)["second"] == "cold")
    assert states(catalogue) == {"own": "ready", "first": "ready", "second": "cold", "third": "ready"}
    assert core(catalogue, "second").name == "second"  # and comes back


def test_an_idle_model_is_unloaded_and_comes_back(make: Make, store: Store) -> None:
    catalogue = make(Bounds(idle_s=0.05))
    core(catalogue, "first")
    wait_until(lambda: states(catalogue)["first"] == "cold")
    assert core(catalogue, "first").name == "first"
    assert store.opened.count("first") == 2
    assert states(catalogue)["own"] == "ready"


def test_an_operator_unloads_and_loads(make: Make) -> None:
    catalogue = make()
    core(catalogue, "first")
    catalogue.unload("first")
    assert states(catalogue)["first"] == "unloaded"
    with pytest.raises(Problem, match="is unloaded"):
        core(catalogue, "first")
    asyncio.run(catalogue.load("first"))
    assert core(catalogue, "first").name == "first"
    with pytest.raises(Problem, match="own model stays"):
        catalogue.unload("own")


def test_a_model_that_cannot_be_loaded_says_why_and_is_not_tried_at_once(
    make: Make, store: Store, champion: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = make()
    wait_until(lambda: store.opened == ["own"])
    source = store.sources["first"]
    assert source.wanted is not None
    assert source.wanted.champion is not None
    kept = source.bundles.pop(source.wanted.champion)
    for _ in range(3):
        with pytest.raises(Problem, match="cannot be loaded: no such bundle in the store") as refused:
            core(catalogue, "first")
        assert refused.value.status == 503
    assert states(catalogue)["first"] == "failed"
    source.bundles[kept.digest] = kept
    with pytest.raises(Problem, match="no such bundle"):
        core(catalogue, "first")
    monkeypatch.setattr("lnmt.serving.catalogue.RETRY_S", 0.0)
    assert core(catalogue, "first").name == "first"
