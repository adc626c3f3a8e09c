"""The versions of a model, asked for one by one: `/v2/models/{name}/versions/{version}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from httpx2 import Response

from lnmt.bundles import Bundle
from lnmt.rollout.deployment import ArmEvidence
from lnmt.rollout.evidence import evidence
from lnmt.runtime.predictor import Predictor
from lnmt.serving.cache.memory import MemoryCache
from lnmt.types import Prediction
from tests.serving.conftest import Kit, MakeKit

MODEL = "/v2/models/sentiment"
TEXTS = ["a good film", "an awful plot"]
BODY: dict[str, Any] = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS}]}


def of(version: Bundle | str, path: str = "") -> str:
    return f"{MODEL}/versions/{version if isinstance(version, str) else version.digest}{path}"


def infer(kit: Kit, version: Bundle | str, **parameters: str) -> Response:
    reply: Response = kit.client.post(of(version, "/infer"), json={**BODY, "parameters": parameters})
    return reply


def scores(reply: Response) -> list[float]:
    found: list[float] = reply.json()["outputs"][1]["data"]
    return found


def expected(predictor: Predictor) -> Any:
    wanted = [score for prediction in predictor.predict(TEXTS) for score in prediction.scores.values()]
    return pytest.approx(wanted, abs=1e-5)


@pytest.fixture
def canary(kit: Kit, champion: Bundle, challenger: Bundle) -> Kit:
    """Two live versions, and a share that no draw gives to the second."""
    assert kit.release(2, champion, challenger, share=0.0)
    return kit


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_version_that_is_asked_for_answers_whatever_the_share_says(
    kit: Kit, champion: Bundle, challenger: Bundle, predictors: Callable[[Bundle], Predictor], share: float
) -> None:
    kit.release(2, champion, challenger, share=share)
    for arm, bundle in (("champion", champion), ("challenger", challenger)):
        for parameters in ({}, {"user": "anna"}, {"user": "bert"}):
            reply = infer(kit, bundle, **parameters)
            assert (reply.status_code, reply.json()["model_version"]) == (200, bundle.digest)
            assert reply.headers["x-lnmt-arm"] == reply.json()["parameters"]["arm"] == arm
            assert scores(reply) == expected(predictors(bundle))
    assert [event.bundle for event in kit.events()] == [champion.digest] * 6 + [challenger.digest] * 6


def test_each_version_has_its_metadata_and_is_ready(canary: Kit, champion: Bundle, challenger: Bundle) -> None:
    whole = canary.client.get(MODEL).json()
    assert whole["versions"] == [champion.digest, challenger.digest]
    for bundle in (champion, challenger):
        assert canary.client.get(of(bundle)).json() == whole  # they are of one kind here
        assert canary.client.get(of(bundle, "/ready")).json() == {"name": "sentiment", "ready": True}


@pytest.mark.parametrize("version", ["sha256:0", "1", "champion", "sha256:" + "é" * 200])
def test_a_version_that_is_not_live_is_unknown(canary: Kit, champion: Bundle, challenger: Bundle, version: str) -> None:
    for reply in (infer(canary, version), canary.client.get(of(version)), canary.client.get(of(version, "/ready"))):
        assert reply.status_code == 404
        assert reply.json() == {
            "error": "no such version is live",
            "where": f"version {version[:100]} of sentiment",
            "allowed": f"{champion.digest}, {challenger.digest}",
            "fix": "ask for a version that is live, or leave /versions/… out of the path: then the share decides",
        }
    assert canary.events() == []
    assert canary.metric("lnmt_rejections_total", reason="unknown") == 3


def test_a_version_of_another_model_is_unknown(kit: Kit, champion: Bundle) -> None:
    for method, path in (("POST", "/infer"), ("GET", "/ready"), ("GET", "")):
        reply = kit.client.request(method, of(champion, path).replace("sentiment", "other"), json=BODY)
        assert (reply.status_code, reply.json()["error"]) == (404, "unknown model")


def test_before_a_release_no_version_is_ready(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit()
    for reply in (infer(kit, champion), kit.client.get(of(champion)), kit.client.get(of(champion, "/ready"))):
        assert (reply.status_code, reply.json()["fix"]) == (503, "wait; the service's log says more")


def test_a_version_is_known_while_it_is_live(canary: Kit, champion: Bundle, challenger: Bundle) -> None:
    canary.release(3, challenger)  # promoted
    assert infer(canary, challenger).json()["parameters"] == {"arm": "champion"}
    gone = infer(canary, champion)
    assert (gone.status_code, gone.json()["allowed"]) == (404, challenger.digest)


class Swaps(MemoryCache):
    """Has nothing, and while it is asked first another deployment comes."""

    def __init__(self) -> None:
        super().__init__(max_bytes=0)
        self.swap: Callable[[], object] = lambda: None

    async def get(self, key: bytes) -> Prediction | None:
        swap, self.swap = self.swap, lambda: None
        swap()
        return None


def test_a_version_that_goes_before_it_answers_is_refused(
    make_kit: MakeKit, champion: Bundle, challenger: Bundle
) -> None:
    cache = Swaps()
    kit = make_kit(cache=cache)
    kit.release(1, champion)
    cache.swap = lambda: kit.release(2, challenger)
    gone = infer(kit, champion)
    assert (gone.status_code, gone.json()["allowed"]) == (404, challenger.digest)
    assert kit.events() == []
    cache.swap = lambda: kit.release(3, champion)
    drawn = kit.client.post(f"{MODEL}/infer", json=BODY)
    assert drawn.json()["model_version"] == champion.digest, "who did not choose gets what is live"


def test_a_version_that_changes_its_arm_before_it_answers_answers(
    make_kit: MakeKit, champion: Bundle, challenger: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    cache = Swaps()
    kit = make_kit(cache=cache)
    kit.release(1, champion, challenger, share=0.0)
    cache.swap = lambda: kit.release(2, challenger)
    reply = infer(kit, challenger)
    assert (reply.json()["model_version"], scores(reply)) == (challenger.digest, expected(predictors(challenger)))
    assert {(event.generation, event.arm) for event in kit.events()} == {(1, "challenger")}, "as it was decided"


def test_a_version_has_no_answers_of_another_from_the_cache(
    make_kit: MakeKit, champion: Bundle, challenger: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    kit = make_kit(cache=MemoryCache(max_bytes=1_000_000))
    kit.release(1, champion, challenger, share=0.0)
    for _ in range(2):
        for bundle in (champion, challenger):
            assert scores(infer(kit, bundle)) == expected(predictors(bundle))
    assert [event.cached for event in kit.events()] == [False] * 4 + [True] * 4


def test_who_chose_the_version_is_no_evidence(canary: Kit, champion: Bundle, challenger: Bundle) -> None:
    for bundle in (champion, challenger):
        infer(canary, bundle, user="anna")
    canary.client.post(f"{MODEL}/infer", json=BODY)
    canary.client.post("/predict", json={"text": "okay"})
    events = canary.events()
    assert [event.pinned for event in events] == [True] * 4 + [False] * 3
    assert all(event.unit is not None for event in events[:4])
    assert canary.source.wanted is not None
    found = evidence(events, canary.source.wanted)
    assert (found["champion"].requests, found["challenger"]) == (3, ArmEvidence(0, 0, None))


def test_the_label_of_a_chosen_version_may_be_told(canary: Kit, challenger: Bundle) -> None:
    told = {"prediction_id": infer(canary, challenger).headers["x-lnmt-prediction-id"], "label": "positive"}
    assert canary.client.post("/feedback", json=told).json() == told


def test_versions_make_no_series(canary: Kit, champion: Bundle) -> None:
    for version in (champion.digest, champion.digest, "1", "2"):
        infer(canary, version)
    labels = {"method": "POST", "route": "/v2/models/{name}/versions/{version}/infer"}
    assert [canary.metric("lnmt_requests_total", status=status, **labels) for status in ("200", "404")] == [2, 2]
    assert "versions/sha256" not in canary.client.get("/metrics").text
