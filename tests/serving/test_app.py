from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from lnmt.bundles import Bundle
from lnmt.monitoring.events import find_event, new_id
from lnmt.monitoring.feedback import read_feedback
from lnmt.serving.limits import Limits
from lnmt.serving.openapi import document
from tests.conftest import Log
from tests.serving.conftest import Kit, MakeKit

JSON = {"Content-Type": "application/json"}
REFUSAL = {"error", "where", "allowed", "fix"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "where"),
    [
        (b'{"text": "okay"', JSON, 400, "line 1 column 16"),
        (b"", JSON, 400, "line 1 column 1"),
        (b'{"text": NaN}', JSON, 400, "line 1 column 10"),
        (b'{"text": "okay",\n"user" "anna"}', JSON, 400, "line 2 column 8"),
        (b'{"text": 1e999}', JSON, 422, "text"),
        (b'{"text": "\xff"}', JSON, 400, "body"),
        (b"[" * 50_000, JSON, 422, "body"),
        (b'{"text": ' + b"[" * 50_000, JSON, 422, "text[0]"),
        (b'["okay"]', JSON, 422, "body"),
        (b'{"text": "okay"}', {"Content-Type": "text/plain"}, 415, "Content-Type"),
        (b'{"text": "okay"}', JSON | {"Content-Encoding": "gzip"}, 400, "body"),
        (b'{"text": "okay"}', JSON | {"Content-Encoding": "br"}, 415, "Content-Encoding"),
        (b'{"text": "a bell \\u0007"}', JSON, 422, "text"),
        (b"{}", JSON, 422, "text"),
        (b'{"text": null}', JSON, 422, "text"),
        (b'{"text": ""}', JSON, 422, "text"),
        (b'{"text": " \\n\\t "}', JSON, 422, "text"),
        (b'{"text": []}', JSON, 422, "text"),
        (b'{"text": ["okay", 7]}', JSON, 422, "text[1]"),
        (b'{"text": ["okay", ""]}', JSON, 422, "text[1]"),
        (b'{"text": "half a pair: \\ud800 "}', JSON, 400, "line 1 column 33"),
        (json.dumps({"text": "a" + "\u0301\u0323" * 50_000}).encode(), JSON, 422, "text"),
        (b'{"text": "okay", "user": 7}', JSON, 422, "user"),
        (b'{"text": "okay", "user": ""}', JSON, 422, "user"),
        (b'{"text": "okay", "users": "anna"}', JSON, 422, "users"),
    ],
)
def test_a_bad_body_says_what_to_change(
    kit: Kit, content: bytes, headers: dict[str, str], status: int, where: str
) -> None:
    reply = kit.client.post("/predict", content=content, headers=headers)
    assert (reply.status_code, reply.json()["where"]) == (status, where)
    assert reply.json().keys() == REFUSAL
    assert reply.json()["fix"]
    assert kit.events() == []


def test_a_misspelt_field_gets_the_near_one(kit: Kit) -> None:
    assert kit.client.post("/predict", json={"texts": "okay"}).json() == {
        "error": "unknown field",
        "where": "texts",
        "allowed": "text, user",
        "fix": "did you mean 'text'?",
    }


def test_limits_hold(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit(Limits(characters=10, rows=2, user_characters=5))
    kit.release(1, champion)
    assert kit.client.post("/predict", json={"text": "a" * 10, "user": "anna5"}).status_code == 200
    for body, allowed in (
        ({"text": "a" * 11}, "at most 10 characters"),
        ({"text": ["a"] * 3}, "1 to 2 texts"),
        ({"text": "a", "user": "anna56"}, "a string of 1 to 5 characters, or nothing"),
    ):
        reply = kit.client.post("/predict", json=body)
        assert (reply.status_code, reply.json()["allowed"]) == (422, allowed)


def test_combining_marks_are_taken_as_languages_have_them(kit: Kit) -> None:
    marks = "\u0301\u0323"
    assert kit.client.post("/predict", json={"text": ("a" + marks * 15) * 3}).status_code == 200
    reply = kit.client.post("/predict", json={"text": ["okay", "a" + marks * 15 + "\u0301"]})
    assert (reply.status_code, reply.json()["where"], reply.json()["allowed"]) == (422, "text[1]", "30 in a row")


def test_a_long_unknown_field_is_told_in_short(kit: Kit) -> None:
    reply = kit.client.post("/predict", json={"text" + "s" * 900_000: "okay"})
    assert (reply.status_code, reply.json()["where"]) == (422, "text" + "s" * 96)


def test_the_default_limits_are_the_documented_ones() -> None:
    assert (Limits().body_bytes, Limits().characters) == (1_000_000, 100_000)


def test_a_large_body_is_refused_by_its_header(kit: Kit) -> None:
    reply = kit.client.post("/predict", content=b" " * 1_000_001, headers=JSON)
    assert (reply.status_code, reply.json()["allowed"]) == (413, "at most 1000000 bytes")
    assert reply.headers["Connection"] == "close"


def test_a_large_body_without_a_length_is_refused_while_it_comes(kit: Kit) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 100_000
            yield b" " * 100_000

    assert kit.client.post("/predict", content=chunks(), headers=JSON).status_code == 413


@pytest.mark.parametrize(
    "path", ["/", "/predict", "/models", "/v2/models/sentiment/ready", "/v2/models/sentiment/infer"]
)
def test_a_line_break_behind_a_path_makes_it_another(kit: Kit, path: str) -> None:
    for method in ("GET", "POST", "PATCH"):
        reply = kit.client.request(method, f"{path}%0A")
        assert (reply.status_code, reply.json()["error"]) == (404, "no such route")


def test_unknown_routes_and_methods_are_json(kit: Kit) -> None:
    reply = kit.client.get("/nope")
    assert (reply.status_code, reply.json()["error"]) == (404, "no such route")
    reply = kit.client.get("/predict")
    assert (reply.status_code, reply.headers["Allow"], reply.json()["allowed"]) == (405, "POST", "POST")
    assert kit.client.post("/predict/", json={"text": "okay"}).status_code == 404


def test_a_bug_is_a_500_without_the_request(kit: Kit, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    async def bug(*_: object) -> None:
        raise RuntimeError("okay, said the request")

    monkeypatch.setattr(kit.core, "predict", bug)
    reply = kit.client.post("/predict", json={"text": "okay"})
    assert (reply.status_code, reply.json()["error"]) == (500, "internal error")
    [line] = [line for line in log() if line["event"] == "request failed"]
    assert (line["error"], line["level"]) == ("RuntimeError", "error")
    assert "said" not in json.dumps(log())


def test_a_websocket_is_closed(kit: Kit) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect) as closed, kit.client.websocket_connect("/predict"):
        pass
    assert closed.value.code == 1003


# --- feedback


def test_feedback_is_kept_and_may_be_said_again_or_corrected(kit: Kit) -> None:
    one = kit.client.post("/predict", json={"text": "okay"}).json()["prediction_id"]
    for label in ("negative", "negative", "positive"):
        reply = kit.client.post("/feedback", json={"prediction_id": one, "label": label})
        assert (reply.status_code, reply.json()) == (200, {"prediction_id": one, "label": label})
    assert {key: value.label for key, value in read_feedback(kit.events_dir).items()} == {one: "positive"}
    assert kit.metric("lnmt_feedback_total", model="sentiment") == 3


@pytest.mark.parametrize("unknown", ["", "a", "../../etc/passwd", pytest.param(new_id(), id="another id")])
def test_feedback_on_an_unknown_prediction_is_404(kit: Kit, unknown: str) -> None:
    kit.client.post("/predict", json={"text": "okay"})
    reply = kit.client.post("/feedback", json={"prediction_id": unknown, "label": "negative"})
    assert (reply.status_code, reply.json()["where"]) == (404, "prediction_id")
    assert read_feedback(kit.events_dir) == {}


def test_feedback_with_a_foreign_label_is_422(kit: Kit) -> None:
    one = kit.client.post("/predict", json={"text": "okay"}).json()["prediction_id"]
    reply = kit.client.post("/feedback", json={"prediction_id": one, "label": "great"})
    assert (reply.status_code, reply.json()["allowed"]) == (422, "negative, neutral, positive")


@pytest.mark.parametrize("body", [{}, {"prediction_id": 1, "label": "a"}, {"prediction_id": "a"}])
def test_feedback_needs_both_fields(kit: Kit, body: dict[str, Any]) -> None:
    assert kit.client.post("/feedback", json=body).status_code == 422


# --- the page, the document, the metrics


def test_the_page_is_whole_and_offline(kit: Kit) -> None:
    for path in ("/", "/docs"):
        reply = kit.client.get(path)
        assert reply.status_code == 200
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert '<form id="form">' in reply.text
        assert re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", reply.text) == ["openapi.json"]
        assert re.findall(r"https?://", reply.text) == []


def test_the_document_has_every_route_and_no_other(kit: Kit) -> None:
    spec = kit.client.get("/openapi.json").json()
    assert spec == document("sentiment", Limits())
    described = {
        (method.upper(), path, operation["x-lnmt-action"])
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    }
    assert described == {(method, path, action) for method, path, action, _ in kit.handlers.table()}


def test_every_reference_of_the_document_is_there() -> None:
    spec = document("sentiment", Limits())
    names = re.findall(r"#/components/schemas/(\w+)", json.dumps(spec))
    assert set(names) == set(spec["components"]["schemas"])


def test_the_examples_of_the_document_are_answered(kit: Kit) -> None:
    spec = kit.client.get("/openapi.json").json()
    predict = spec["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["example"]
    infer = spec["components"]["schemas"]["InferRequest"]["example"]
    assert kit.client.post("/predict", json=predict).status_code == 200
    assert kit.client.post("/v2/models/sentiment/infer", json=infer).status_code == 200


def test_metrics_are_bounded(kit: Kit) -> None:
    kit.client.post("/predict", json={"text": "okay"})
    before = kit.client.get("/metrics").text.count("\n")
    for number in range(50):
        kit.client.get(f"/nope/{number}")
        kit.client.get(f"/v2/models/{number}")
        kit.client.request(f"BREW{number}", "/predict")
    text = kit.client.get("/metrics").text
    assert text.count("\n") - before < 120  # four new combinations of route, method and status, with their buckets
    assert 'lnmt_requests_total{method="GET",route="/v2/models/{name}",status="404"} 50.0' in text
    assert 'lnmt_requests_total{method="GET",route="unmatched",status="404"} 50.0' in text
    assert 'lnmt_requests_total{method="OTHER",route="/predict",status="405"} 50.0' in text
    assert 'lnmt_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'lnmt_engine_seconds_count{engine="torch",model="sentiment"} 1.0' in text
    assert kit.metric("lnmt_rejections_total", reason="unknown") == 100


def test_the_prediction_id_finds_the_event(kit: Kit) -> None:
    reply = kit.client.post("/predict", json={"text": "okay"})
    event = find_event(kit.events_dir, reply.headers["x-lnmt-prediction-id"])
    assert event is not None
    assert event.label == reply.json()["label"]


def test_head_asks_without_a_body(kit: Kit) -> None:
    client: TestClient = kit.client
    assert (client.head("/readyz").status_code, client.head("/readyz").content) == (200, b"")
