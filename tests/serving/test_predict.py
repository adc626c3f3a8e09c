from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from lnmt.bundles import Bundle
from lnmt.monitoring.events import id_time
from lnmt.rollout.assign import assign
from lnmt.runtime.predictor import Predictor
from lnmt.serving.limits import Limits
from lnmt.stats.projection import project
from lnmt.types import Batch, Output
from tests.conftest import Log
from tests.serving.conftest import Broken, Kit, MakeKit, with_engine

TEXTS = ["a good film", "the plot is dull and the book was awful", "okay", "not very great"]


def test_a_text_gets_the_models_answer(kit: Kit, champion: Bundle, predictors: Callable[[Bundle], Predictor]) -> None:
    reply = kit.client.post("/predict", json={"text": TEXTS[1]})
    [expected] = predictors(champion).predict([TEXTS[1]])
    body = reply.json()
    assert reply.status_code == 200
    assert body["label"] == expected.label
    assert body["scores"] == {label: round(score, 6) for label, score in expected.scores.items()}
    assert (body["version"], body["arm"]) == (champion.digest, "champion")
    assert reply.headers["x-lnmt-prediction-id"] == body["prediction_id"]
    assert reply.headers["x-lnmt-arm"] == "champion"
    assert id_time(body["prediction_id"]) is not None


def test_a_list_is_answered_in_order(kit: Kit, champion: Bundle, predictors: Callable[[Bundle], Predictor]) -> None:
    reply = kit.client.post("/predict", json={"text": TEXTS})
    rows = reply.json()
    for row, text in zip(rows, TEXTS, strict=True):
        [alone] = predictors(champion).predict([text])
        assert row["label"] == alone.label
        assert row["scores"] == pytest.approx(alone.scores, abs=1e-5)
    assert reply.headers["x-lnmt-prediction-id"] == rows[0]["prediction_id"]
    assert len({row["prediction_id"] for row in rows}) == 4


def test_a_list_of_one_stays_a_list(kit: Kit) -> None:
    assert [row["arm"] for row in kit.client.post("/predict", json={"text": ["okay"]}).json()] == ["champion"]


def test_every_answer_has_its_event(kit: Kit, champion: Bundle, predictors: Callable[[Bundle], Predictor]) -> None:
    before = time.time()
    rows = kit.client.post("/predict", json={"text": TEXTS, "user": "anna"}).json()
    events = kit.events()
    assert [event.id for event in events] == [row["prediction_id"] for row in rows]
    lengths = [len(tokens) for tokens in predictors(champion).encode(TEXTS)]
    for event, row, text, length in zip(events, rows, TEXTS, lengths, strict=True):
        assert (event.label, event.scores, event.bundle) == (row["label"], row["scores"], champion.digest)
        assert (event.model, event.generation, event.arm, event.cached) == ("sentiment", 1, "champion", False)
        assert event.unit == "sha256:" + hashlib.sha256(b"anna").hexdigest()
        assert (event.batch_rows, event.tokens, event.padded_tokens) == (4, length, -(-max(lengths) // 8) * 8)
        assert (event.characters, event.text, event.error) == (len(text), None, None)
        assert before <= event.time <= time.time()
        assert 0 < event.latency_ms < 60_000
    assert sorted(event.row for event in events) == [0, 1, 2, 3]
    pooled = predictors(champion).predict([TEXTS[0]])[0].pooled
    assert events[0].pooled == pytest.approx(np.asarray(project(pooled)).tolist(), abs=1e-4)


def test_text_is_kept_only_where_settings_say_so(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit(store_text=True)
    kit.release(1, champion)
    kit.client.post("/predict", json={"text": "okay"})
    assert [event.text for event in kit.events()] == ["okay"]


def test_arms_are_sticky_by_user(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    kit.release(2, champion, challenger, share=0.4)
    assert kit.source.wanted is not None
    digests = {"champion": champion.digest, "challenger": challenger.digest}
    seen = set()
    for user in (f"user {number}" for number in range(20)):
        expected = assign(kit.source.wanted, user, 0.0)
        for _ in range(2):
            reply = kit.client.post("/predict", json={"text": "okay", "user": user})
            assert reply.json()["arm"] == reply.headers["x-lnmt-arm"] == expected
            assert reply.json()["version"] == digests[expected]
        seen.add(expected)
    assert seen == {"champion", "challenger"}


def test_without_a_user_the_share_decides(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    kit.release(2, champion, challenger, share=1.0)
    assert kit.client.post("/predict", json={"text": "okay"}).json()["arm"] == "challenger"
    kit.release(3, champion, challenger, share=0.0)
    assert kit.client.post("/predict", json={"text": "okay"}).json()["arm"] == "champion"
    assert [event.generation for event in kit.events()] == [2, 3]


def test_long_lists_run_in_batches(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit(Limits(batch_rows=2))
    kit.release(1, champion)
    kit.client.post("/predict", json={"text": ["okay"] * 5})
    assert [event.batch_rows for event in kit.events()] == [2, 2, 2, 2, 1]


def poisoned(champion: Bundle) -> tuple[Callable[[Bundle], Predictor], list[Broken]]:
    engines: list[Broken] = []

    def wrap(inner: Predictor) -> Broken:
        engines.append(Broken(inner, poison=inner.encode(["awful"])[0][1]))
        return engines[-1]

    return lambda bundle: with_engine(bundle, wrap), engines


def test_a_poison_text_harms_no_other(
    make_kit: MakeKit, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    open_predictor, engines = poisoned(champion)
    kit = make_kit(open_predictor=open_predictor)
    kit.release(1, champion)
    rows = kit.client.post("/predict", json={"text": ["good", "an awful film", "okay"]}).json()
    assert [row.get("error") for row in rows] == [None, "ValueError", None]
    assert [rows[0]["label"], rows[2]["label"]] == [p.label for p in predictors(champion).predict(["good", "okay"])]
    assert [event.error for event in kit.events()] == [None, "ValueError", None]
    assert engines[0].batches == [3, 1, 2, 1, 1]  # halves of halves
    assert kit.metric("lnmt_predictions_total", model="sentiment", arm="champion", outcome="error") == 1
    assert kit.metric("lnmt_predictions_total", model="sentiment", arm="champion", outcome="ok") == 2


def test_a_single_text_that_fails_is_a_500_with_its_trace(make_kit: MakeKit, champion: Bundle) -> None:
    open_predictor, _ = poisoned(champion)
    kit = make_kit(open_predictor=open_predictor)
    kit.release(1, champion)
    reply = kit.client.post("/predict", json={"text": "awful"})
    [event] = kit.events()
    assert reply.status_code == 500
    assert reply.json() == {
        "error": "ValueError",
        "version": champion.digest,
        "arm": "champion",
        "prediction_id": event.id,
    }
    assert (event.error, event.label, event.scores, event.pooled) == ("ValueError", None, {}, [])
    assert reply.headers["x-lnmt-prediction-id"] == event.id


def test_the_request_never_reaches_the_log(make_kit: MakeKit, champion: Bundle, log: Log) -> None:
    open_predictor, _ = poisoned(champion)
    kit = make_kit(open_predictor=open_predictor, store_text=True)
    kit.release(1, champion)
    kit.client.post("/predict", json={"text": "awful words of mine"})
    [line] = [line for line in log() if line["event"] == "a text failed"]
    assert line["error"] == "ValueError"
    assert any("infer" in frame for frame in line["frames"])
    assert "words" not in json.dumps(log())


class Held:
    """An engine that answers when it is let."""

    def __init__(self, predictor: Predictor) -> None:
        self._engine = predictor.engine
        self.entered, self.go = threading.Event(), threading.Event()

    def infer(self, batch: Batch) -> Output:
        self.entered.set()
        assert self.go.wait(30)
        return self._engine.infer(batch)

    def load(self, *_: object, **__: object) -> None: ...
    def warm_up(self) -> None: ...
    def close(self) -> None: ...


def test_a_full_queue_says_when_to_come_back(make_kit: MakeKit, champion: Bundle) -> None:
    from concurrent.futures import ThreadPoolExecutor

    inner = Predictor.open(champion, threads=1)
    held = Held(inner)
    kit = make_kit(Limits(waiting_rows=3), open_predictor=lambda bundle: Predictor(bundle, held))
    kit.release(1, champion)
    assert kit.live.snapshot is not None
    batcher = kit.live.snapshot.batcher("champion")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kit.client.post, "/predict", json={"text": "okay"})
        assert held.entered.wait(30)
        second = pool.submit(kit.client.post, "/predict", json={"text": ["okay"] * 5})  # taken: nothing waits
        while batcher.waiting_rows < 6:
            threading.Event().wait(0.001)
        refused = kit.client.post("/predict", json={"text": "okay"})
        held.go.set()
        assert {first.result().status_code, second.result().status_code} == {200}
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["fix"] == "send again in 1 s"
    assert kit.metric("lnmt_rejections_total", reason="queue full") == 1
    assert kit.client.post("/predict", json={"text": "okay"}).status_code == 200
    assert len(kit.events()) == 7


def test_an_answer_that_cannot_be_traced_is_not_given(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    kit.client.post("/predict", json={"text": "okay"})

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lnmt.monitoring.spool.os.write", full)
        refused = kit.client.post("/predict", json={"text": "okay"})
    assert refused.status_code == 503
    assert refused.json()["error"] == "the prediction store cannot be used"
    assert "x-lnmt-prediction-id" not in refused.headers
    assert kit.client.post("/predict", json={"text": "okay"}).status_code == 200
    assert len(kit.events()) == 2
    assert os.write is not full
