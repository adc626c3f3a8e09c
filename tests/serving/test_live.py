from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lnmt.bundles import Bundle
from lnmt.errors import Transient
from lnmt.runtime.predictor import Predictor
from tests.conftest import Log
from tests.serving.conftest import Kit, MakeKit
from tests.serving.test_predict import Held
from tests.task_bundle import task_bundle


def test_nothing_released_is_said(make_kit: MakeKit) -> None:
    kit = make_kit()
    assert not kit.live.refresh()
    for path in ("/readyz", "/health", "/v2/health/ready", "/v2/models/sentiment/ready", "/v2/models/sentiment"):
        reply = kit.client.get(path)
        assert (reply.status_code, reply.json()["error"], reply.json()["fix"]) == (
            503,
            "no model released yet",
            "lnmt release",
        )
        assert reply.headers["Retry-After"] == "1"
    assert kit.client.post("/predict", json={"text": "okay"}).status_code == 503
    for path in ("/livez", "/healthz", "/v2/health/live"):
        assert kit.client.get(path).status_code == 200


def test_ready_says_what_is_live(kit: Kit, champion: Bundle) -> None:
    assert kit.client.get("/readyz").json() == {
        "status": "ready",
        "model": "sentiment",
        "generation": 1,
        "phase": "promoted",
        "champion": champion.digest,
        "challenger": None,
        "share": 0.0,
        "workers": {"ready": 1, "wanted": 1},
    }
    assert kit.metric("lnmt_generation", model="sentiment") == 1


def test_the_same_row_loads_nothing(kit: Kit) -> None:
    assert not kit.live.refresh()
    assert kit.metric("lnmt_bundle_loads_total", model="sentiment", outcome="loaded") == 1


def test_a_promotion_keeps_what_is_loaded(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    assert kit.release(2, champion, challenger, share=0.5)
    assert kit.release(3, challenger)
    assert kit.metric("lnmt_bundle_loads_total", model="sentiment", outcome="loaded") == 2
    assert kit.client.post("/predict", json={"text": "okay"}).json()["version"] == challenger.digest


def test_a_corrupt_candidate_leaves_the_old_serving(
    kit: Kit, champion: Bundle, challenger: Bundle, tmp_path: Path, log: Log
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(challenger.path, broken)
    weights = bytearray((broken / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "model.safetensors").write_bytes(weights)
    kit.source.bundles[challenger.digest] = Bundle(broken, challenger.manifest, challenger.digest)
    assert not kit.release(2, champion, challenger, share=1.0)
    assert kit.client.get("/readyz").json()["generation"] == 1
    assert kit.client.post("/predict", json={"text": "okay"}).json()["version"] == champion.digest
    assert not kit.live.refresh()  # not tried again at once, and not said again
    [line] = [line for line in log() if line["level"] == "error"]
    assert (line["event"], line["error"]) == ("generation 2 cannot be loaded", "digest does not match")
    assert kit.metric("lnmt_bundle_loads_total", model="sentiment", outcome="failed") == 1
    assert kit.release(3, champion)  # the next row is tried


def test_a_bundle_of_another_task_leaves_the_old_serving(kit: Kit, champion: Bundle, tmp_path: Path, log: Log) -> None:
    other = task_bundle(tmp_path / "other", "text-regression")
    kit.source.bundles[other.digest] = other
    assert not kit.release(2, champion, other, share=1.0)
    assert kit.client.get("/readyz").json()["generation"] == 1
    [line] = [line for line in log() if line["level"] == "error"]
    assert line["error"] == "the service does not answer this task"
    assert "lnmt predict" in line["fix"]


def test_a_failed_candidate_is_tried_again_later(
    kit: Kit, champion: Bundle, challenger: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnmt.serving.live.RETRY_S", 0.0)
    kit.source.bundles[challenger.digest] = Bundle(Path("absent"), challenger.manifest, challenger.digest)
    assert not kit.release(2, champion, challenger, share=1.0)
    kit.source.bundles[challenger.digest] = challenger
    assert kit.live.refresh()
    assert kit.client.get("/readyz").json()["generation"] == 2


def test_a_first_bundle_that_cannot_be_loaded_is_why_it_is_not_ready(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit()
    kit.source.bundles[champion.digest] = Bundle(Path("absent"), champion.manifest, champion.digest)
    assert not kit.release(1, champion)
    assert kit.client.get("/readyz").json()["error"] == (
        "generation 1 cannot be loaded: not a bundle: it has no bundle.json"
    )


def test_serving_goes_on_without_the_database(kit: Kit) -> None:
    kit.source.failure = Transient("the database did not answer")
    assert not kit.live.refresh()
    assert kit.client.get("/readyz").json()["generation"] == 1
    assert kit.client.post("/predict", json={"text": "okay"}).status_code == 200


def test_work_in_flight_ends_on_the_old_bundle(
    make_kit: MakeKit, champion: Bundle, challenger: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held = Held(Predictor.open(champion, threads=1))

    def open_predictor(bundle: Bundle) -> Predictor:
        return Predictor(bundle, held) if bundle.digest == champion.digest else predictors(bundle)

    kit = make_kit(open_predictor=open_predictor)
    kit.release(1, champion)
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(kit.client.post, "/predict", json={"text": "okay"})
        assert held.entered.wait(30)
        assert kit.release(2, challenger)
        assert kit.client.post("/predict", json={"text": "okay"}).json()["version"] == challenger.digest
        held.go.set()
        assert old.result().json()["version"] == champion.digest
    assert sorted(event.generation for event in kit.events()) == [1, 2]


def test_switching_under_load_drops_nothing(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    done = threading.Event()

    def traffic() -> list[int]:
        statuses = []
        while not done.is_set():
            statuses.append(kit.client.post("/predict", json={"text": "okay"}).status_code)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(traffic) for _ in range(2)]
        for generation in range(2, 22):
            kit.release(generation, champion if generation % 2 else challenger)
        done.set()
        statuses = [status for run in runs for status in run.result()]
    assert set(statuses) == {200}
    assert len(kit.events()) == len(statuses)
    for event in kit.events():
        assert event.bundle == (champion if event.generation % 2 else challenger).digest


def test_the_lifespan_loads_and_drains(make_kit: MakeKit, champion: Bundle) -> None:
    opened = threading.Event()

    def open_predictor(bundle: Bundle) -> Predictor:
        predictor = Predictor.open(bundle, threads=1)
        opened.set()
        return predictor

    kit = make_kit(open_predictor=open_predictor)
    kit.source.bundles[champion.digest] = champion
    from lnmt.rollout.deployment import Deployment

    kit.source.wanted = Deployment("sentiment", 1, "promoted", champion.digest, None, 0.0, 0.0, "test")
    with TestClient(kit.app) as client:
        assert opened.wait(30)
        assert client.get("/livez").status_code == 200
    assert kit.live.snapshot is None
    assert [thread.name for thread in threading.enumerate() if thread.name == "deployment-watcher"] == []
    assert kit.client.get("/readyz").json()["error"] == "stopping"
