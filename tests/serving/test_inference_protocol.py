from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lnmt.bundles import Bundle
from lnmt.runtime.predictor import Predictor
from tests.serving.conftest import Broken, Kit, MakeKit, with_engine

URL = "/v2/models/sentiment/infer"
TEXTS = ["a good film", "an awful plot"]


def body(rows: list[Any] | None = None, **changes: Any) -> dict[str, Any]:
    data = TEXTS if rows is None else rows
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data, **changes}
    return {"inputs": [tensor]}


def test_infer_gives_labels_and_scores(kit: Kit, champion: Bundle, predictors: Callable[[Bundle], Predictor]) -> None:
    reply = kit.client.post(URL, json={**body(), "id": "mine"})
    expected = predictors(champion).predict(TEXTS)
    value = reply.json()
    label, scores, ids = value.pop("outputs")
    assert value == {
        "model_name": "sentiment",
        "model_version": champion.digest,
        "id": "mine",
        "parameters": {"arm": "champion"},
    }
    assert label == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": [prediction.label for prediction in expected],
    }
    assert scores["shape"] == [2, 3]
    assert (scores["datatype"], scores["parameters"]) == ("FP32", {"labels": ["negative", "neutral", "positive"]})
    table = np.array(scores["data"]).reshape(2, 3)
    assert table.tolist() == [
        [pytest.approx(prediction.scores[label], abs=1e-6) for label in champion.manifest.labels]
        for prediction in expected
    ]
    assert ids["data"] == [event.id for event in kit.events()]
    assert reply.headers["x-lnmt-prediction-id"] == ids["data"][0]
    assert reply.headers["x-lnmt-arm"] == "champion"


def test_a_column_is_a_batch_too(kit: Kit) -> None:
    flat = kit.client.post(URL, json=body()).json()["outputs"][0]
    nested = kit.client.post(URL, json=body([[text] for text in TEXTS], shape=[2, 1])).json()["outputs"][0]
    column = kit.client.post(URL, json=body(shape=[2, 1])).json()["outputs"][0]
    assert flat == nested == column


def test_outputs_may_be_chosen(kit: Kit) -> None:
    wanted = {**body(), "outputs": [{"name": "scores"}, {"name": "label"}]}
    assert [output["name"] for output in kit.client.post(URL, json=wanted).json()["outputs"]] == ["scores", "label"]


def test_the_user_is_a_parameter(kit: Kit) -> None:
    kit.client.post(URL, json={**body(), "parameters": {"user": "anna"}})
    assert all(event.unit is not None for event in kit.events())


@pytest.mark.parametrize(
    ("request_body", "where"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": ["text"]}, "inputs[0]"),
        ({"inputs": [{"name": "text"}]}, "inputs[0].datatype"),
        ({"inputs": [*body()["inputs"], *body()["inputs"]]}, "inputs"),
        (body(name="texts"), "inputs[0].name"),
        (body(datatype="FP32"), "inputs[0].datatype"),
        (body(shape=[3]), "inputs[0].shape"),
        (body(shape="2"), "inputs[0].shape"),
        (body(data="okay"), "inputs[0].data"),
        (body([]), "inputs[0].data"),
        (body(["okay", ""]), "inputs[0].data[1]"),
        (body([["a", "b"]]), "inputs[0].data[0]"),
        (body(["okay", ["okay"]]), "inputs[0].data[1]"),
        (body(["okay", 7]), "inputs[0].data[1]"),
        ({**body(), "id": 7}, "id"),
        ({**body(), "parameters": []}, "parameters"),
        ({**body(), "parameters": {"user": 7}}, "parameters.user"),
        ({**body(), "outputs": [{"name": "logits"}]}, "outputs"),
        ({**body(), "outputs": [{"name": ["label"]}]}, "outputs[0].name"),
        ({**body(), "outputs": [{"name": "label"}, {"name": "label"}]}, "outputs"),
        ({**body(), "outputs": []}, "outputs"),
        ({**body(), "input": []}, "input"),
    ],
)
def test_a_bad_request_says_where(kit: Kit, request_body: dict[str, Any], where: str) -> None:
    reply = kit.client.post(URL, json=request_body)
    assert (reply.status_code, reply.json()["where"]) == (422, where)


def test_what_is_passed_over_may_be_anything_but_deep(kit: Kit) -> None:
    parameters = {"user": "anna", "priority": [{"a": 1}, None]}
    assert kit.client.post(URL, json={**body(), "parameters": parameters}).status_code == 200
    deep = json.dumps(body())[:-1] + ', "parameters": {"a": ' + "[" * 50_000
    reply = kit.client.post(URL, content=deep, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]) == (400, "the body is not JSON: nested too deeply")


def test_another_model_is_unknown(kit: Kit) -> None:
    for method, path in (("POST", "infer"), ("GET", "ready"), ("GET", "")):
        reply = kit.client.request(method, f"/v2/models/other/{path}".rstrip("/"), json=body())
        assert (reply.status_code, reply.json()["allowed"]) == (404, "sentiment")


def test_a_request_fails_whole(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit(
        open_predictor=lambda bundle: with_engine(
            bundle, lambda inner: Broken(inner, poison=inner.encode(["awful"])[0][1])
        )
    )
    kit.release(1, champion)
    reply = kit.client.post(URL, json=body())
    assert (reply.status_code, reply.json()["where"]) == (500, "inputs[0].data[1]")
    assert reply.headers["x-lnmt-prediction-id"] == kit.events()[0].id


def test_metadata(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    assert kit.client.get("/v2").json()["name"] == "lnmt"
    kit.release(2, champion, challenger, share=0.5)
    value = kit.client.get("/v2/models/sentiment").json()
    assert value["versions"] == [champion.digest, challenger.digest]
    assert value["platform"] == "lnmt_torch"
    assert value["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert kit.client.get("/v2/models/sentiment/ready").json() == {"name": "sentiment", "ready": True}
    assert kit.client.get("/v2/health/ready").json() == {"ready": True}
    assert kit.client.get("/v2/health/live").json() == {"live": True}
