"""Postprocessors alone, and in the path of a request: real app, real tiny engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.monitoring.events import find_event
from lnmt.params import Plugin
from lnmt.rollout.evidence import evidence
from lnmt.serving.cache.memory import MemoryCache
from lnmt.serving.postprocessors import (
    POSTPROCESSORS,
    Abstain,
    BasePostprocessor,
    Reply,
    TopScores,
    open_postprocessors,
)
from lnmt.serving.schemas import SCHEMAS, ref
from lnmt.serving.server import serve
from lnmt.settings import Settings
from lnmt.trace import Trace, rows
from tests.conftest import Log
from tests.serving.conftest import Kit, MakeKit

SURE = Reply("positive", {"negative": 0.1, "neutral": 0.3, "positive": 0.6})
TEXTS = ["a good film", "an awful plot", "okay"]
INFER = "/v2/models/sentiment/infer"


def fail(reply: Reply, text: str) -> Reply:
    raise KeyError(f"private words: {text}")


def mutate(reply: Reply, text: str) -> Reply:
    reply.scores.clear()
    return reply


ACTS: dict[str, Callable[[Reply, str], Any]] = {
    "withhold": lambda reply, text: replace(reply, withheld="of the word"),
    "rename": lambda reply, text: replace(reply, label="unsure"),
    "mutate": mutate,
    "fail": fail,
    "give the text": lambda reply, text: text,
    "give no label": lambda reply, text: replace(reply, label=""),
    "give no reason": lambda reply, text: replace(reply, withheld=""),
    "score a foreign label": lambda reply, text: replace(reply, scores={"great": 1.0}),
    "score NaN": lambda reply, text: replace(reply, scores={reply.label: float("nan")}),
    "score in words": lambda reply, text: Reply(reply.label, {reply.label: "high"}),  # type: ignore[dict-item]
    "list scores": lambda reply, text: Reply(reply.label, [1.0]),  # type: ignore[arg-type]
}


class OnWord(BasePostprocessor):
    """Does one of ACTS to a text that has the word."""

    def __init__(self, word: str, act: str) -> None:
        self.word, self.act = word, ACTS[act]

    def process(self, reply: Reply, text: str) -> Any:
        return self.act(reply, text) if self.word in text else reply


@pytest.fixture(autouse=True)
def on_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has `on-word` for a test."""
    monkeypatch.setitem(POSTPROCESSORS._entries, "on-word", OnWord)


def kit_with(make_kit: MakeKit, champion: Bundle, *postprocessors: dict[str, Any], **more: Any) -> Kit:
    kit = make_kit(postprocessors=postprocessors, **more)
    kit.release(1, champion)
    return kit


def withhold(word: str) -> dict[str, Any]:
    return {"name": "on-word", "word": word, "act": "withhold"}


# --- the steps alone


@pytest.mark.parametrize("below", [0, 0.6, 0.5999])
def test_abstain_lets_pass_what_reaches_its_score(below: float) -> None:
    assert Abstain(below).process(SURE, "okay") is SURE


def test_abstain_withholds_what_is_below() -> None:
    assert Abstain(0.61).process(SURE, "okay") == replace(SURE, withheld="the score is below 0.61")
    without = replace(SURE, label="unsure")
    assert Abstain(0.01).process(without, "okay").withheld == "the score is below 0.01"
    assert Abstain(0.0).process(without, "okay") is without


def test_top_scores_keeps_the_highest_in_the_order_of_the_labels() -> None:
    step = TopScores(2)
    assert list(step.process(SURE, "okay").scores.items()) == [("neutral", 0.3), ("positive", 0.6)]
    assert TopScores(3).process(SURE, "okay") == SURE
    assert TopScores(1).process(replace(SURE, scores={"a": 0.5, "b": 0.5}), "okay").scores == {"a": 0.5}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "abstain", "below": 1.5}, r"below is 1\.5; allowed: 0…1"),
        ({"name": "abstain", "below": float("nan")}, "below is nan; allowed: 0…1"),
        ({"name": "abstain", "below": "0.6"}, r"below is '0\.6'; it must be a number in 0…1"),
        ({"name": "abstain", "below": True}, "below is True; it must be a number in 0…1"),
        ({"name": "abstain"}, "missing a required argument: 'below'"),
        ({"name": "top_scores", "k": 0}, "k is 0; allowed: at least 1"),
        ({"name": "top_scores", "k": 1.0}, r"k is 1\.0; it must be a whole number, at least 1"),
    ],
)
def test_a_bad_option_is_told_with_its_place(options: dict[str, Any], says: str) -> None:
    with pytest.raises(LnmtError, match=says) as caught:
        open_postprocessors([Plugin(name="top_scores", k=1), Plugin(**options)])
    assert caught.value.where == "params.yaml: serve.postprocessors.1"
    assert caught.value.value == {name: value for name, value in options.items() if name != "name"}
    assert str(caught.value.allowed).startswith(f"{options['name']}(")


def test_a_misspelt_name_or_option_gets_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'abstain'"):
        open_postprocessors([Plugin(name="abstian", below=0.5)])
    with pytest.raises(UnknownName, match="did you mean 'below'"):
        open_postprocessors([Plugin(name="abstain", bellow=0.5)])


def test_a_class_without_process_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(BasePostprocessor):
        pass

    monkeypatch.setitem(POSTPROCESSORS._entries, "empty", Empty)
    with pytest.raises(LnmtError, match="abstract"):
        open_postprocessors([Plugin(name="empty")])


def test_none_are_made_of_an_empty_list() -> None:
    assert open_postprocessors([]) is None


def test_a_bad_list_is_said_before_the_service_starts(tmp_path: Path, repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["serve"]["postprocessors"] = [{"name": "abstain", "below": 2}]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(LnmtError, match="below is 2; allowed: 0…1"):
        serve(Settings(project=tmp_path), name="sentiment")


# --- in the path of a request


def test_a_withheld_answer_is_no_error(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, {"name": "abstain", "below": 1.0})
    reply = kit.client.post("/predict", json={"text": TEXTS[0]})
    [event] = kit.events()
    assert reply.status_code == 200
    assert reply.json() == {
        "label": None,
        "scores": {},
        "withheld": "the score is below 1",
        "version": champion.digest,
        "arm": "champion",
        "prediction_id": event.id,
    }
    assert kit.metric("lnmt_predictions_total", model="sentiment", arm="champion", outcome="ok") == 1
    assert kit.metric("lnmt_withheld_total", model="sentiment", postprocessor="abstain") == 1
    assert kit.source.wanted is not None
    assert evidence(kit.events(), kit.source.wanted)["champion"].errors == 0


def test_the_event_keeps_what_the_model_said(make_kit: MakeKit, champion: Bundle) -> None:
    renamed = {"name": "on-word", "word": "okay", "act": "rename"}
    mutated = {"name": "on-word", "word": "good", "act": "mutate"}
    kit = kit_with(make_kit, champion, mutated, renamed, withhold("awful"))
    answers = kit.client.post("/predict", json={"text": TEXTS}).json()
    plain = make_kit()
    plain.release(1, champion)
    said = plain.client.post("/predict", json={"text": TEXTS}).json()
    events = kit.events()[:3]
    assert [(event.label, event.scores) for event in events] == [(row["label"], row["scores"]) for row in said]
    assert all(event.pooled for event in events)
    assert [(event.given_label, event.withheld) for event in events] == [
        (None, None),
        (None, "of the word"),
        ("unsure", None),
    ]
    assert [row["label"] for row in answers] == [said[0]["label"], None, "unsure"]
    assert [row["scores"] for row in answers] == [{}, {}, said[2]["scores"]]
    assert [row.get("withheld") for row in answers] == [None, "of the word", None]
    # a label of the model's own may be told, whatever the reply said
    told = {"prediction_id": answers[1]["prediction_id"], "label": "negative"}
    assert kit.client.post("/feedback", json=told).status_code == 200


def test_the_first_that_withholds_has_the_last_word(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, withhold("awful"), {"name": "on-word", "word": "awful", "act": "fail"})
    rows = kit.client.post("/predict", json={"text": TEXTS}).json()
    assert [row.get("withheld") for row in rows] == [None, "of the word", None]
    assert [row.get("error") for row in rows] == [None, None, None]
    assert kit.metric("lnmt_withheld_total", model="sentiment", postprocessor="on-word") == 1


@pytest.mark.parametrize(
    ("act", "error"),
    [
        ("fail", "KeyError"),
        ("give the text", "TypeError"),
        ("give no label", "ValueError"),
        ("give no reason", "ValueError"),
        ("score a foreign label", "ValueError"),
        ("score NaN", "ValueError"),
        ("score in words", "ValueError"),
        ("list scores", "AttributeError"),
    ],
)
def test_one_that_fails_harms_no_other_text(
    make_kit: MakeKit, champion: Bundle, log: Log, act: str, error: str
) -> None:
    kit = kit_with(make_kit, champion, {"name": "on-word", "word": "awful", "act": act}, store_text=True)
    rows = kit.client.post("/predict", json={"text": TEXTS}).json()
    assert [row.get("error") for row in rows] == [None, error, None]
    assert rows[1].keys() == {"error", "version", "arm", "prediction_id"}
    [event] = [event for event in kit.events() if event.error is not None]
    assert (event.id, event.error, event.label, event.withheld) == (rows[1]["prediction_id"], error, None, None)
    [line] = [line for line in log() if line["event"] == "a text failed"]
    assert (line["error"], line["postprocessor"]) == (error, "on-word")
    assert any("postprocessors.py" in frame for frame in line["frames"])
    assert "awful" not in json.dumps(log())
    assert kit.metric("lnmt_predictions_total", model="sentiment", arm="champion", outcome="error") == 1
    assert kit.metric("lnmt_withheld_total", model="sentiment", postprocessor="on-word") == 0
    assert kit.client.post("/predict", json={"text": "awful"}).status_code == 500


def test_a_text_that_the_engine_failed_on_is_not_asked_about(
    make_kit: MakeKit, champion: Bundle, broken: Any, log: Log
) -> None:
    kit = kit_with(make_kit, champion, withhold(""), open_predictor=broken)
    rows = kit.client.post("/predict", json={"text": TEXTS}).json()
    assert [row.get("withheld") for row in rows] == ["of the word", None, "of the word"]
    assert rows[1]["error"] == "ValueError"
    [line] = [line for line in log() if line["event"] == "a text failed"]
    assert line["postprocessor"] is None


def test_answers_of_the_cache_are_processed_too(make_kit: MakeKit, champion: Bundle) -> None:
    top = {"name": "top_scores", "k": 1}
    kit = kit_with(make_kit, champion, withhold("awful"), top, cache=MemoryCache(2**20))
    for _ in range(2):
        rows = kit.client.post("/predict", json={"text": TEXTS}).json()
        assert [row.get("withheld") for row in rows] == [None, "of the word", None]
        assert [list(row["scores"]) for row in rows] == [[rows[0]["label"]], [], [rows[2]["label"]]]
    events = kit.events()
    assert [event.cached for event in events] == [False] * 3 + [True] * 3
    assert [len(event.scores) for event in events] == [3] * 6
    assert [event.withheld for event in events] == [None, "of the word", None] * 2
    assert [event.given_label for event in events] == [None] * 6


def test_tensors_have_a_place_for_what_is_not_told(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, withhold("good"), {"name": "top_scores", "k": 1})
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": TEXTS}]}
    reply = kit.client.post(INFER, json=body)
    label, scores, _ = reply.json()["outputs"]
    events = kit.events()
    assert reply.status_code == 200
    assert label["data"] == ["", events[1].label, events[2].label]
    assert (scores["shape"], scores["parameters"]) == ([3, 3], {"labels": champion.manifest.labels})
    assert scores["data"] == [0.0] * 3 + [
        event.scores[name] if name == event.label else 0.0 for event in events[1:] for name in champion.manifest.labels
    ]


def test_a_request_of_tensors_fails_whole(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, {"name": "on-word", "word": "awful", "act": "fail"})
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": TEXTS}]}
    reply = kit.client.post(INFER, json=body)
    assert (reply.status_code, reply.json()["error"]) == (500, "a text failed")
    assert reply.json()["where"] == "inputs[0].data[1]"


def test_replies_are_as_the_document_says(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, withhold("good"), {"name": "on-word", "word": "awful", "act": "fail"})

    def fits(kind: str, row: object) -> bool:
        return fits_schema(ref(kind), row)

    rows = kit.client.post("/predict", json={"text": TEXTS}).json()
    assert [[kind for kind in ("Withheld", "Failure", "Answer") if fits(kind, row)] for row in rows] == [
        ["Withheld"],
        ["Failure"],
        ["Answer"],
    ]
    assert all(fits("RowAnswer", row) for row in rows)


def test_a_text_that_fails_alone_is_as_the_document_says(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, {"name": "on-word", "word": "awful", "act": "fail"})
    responses = kit.client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    schemas = {status: response["content"]["application/json"]["schema"] for status, response in responses.items()}
    reply = kit.client.post("/predict", json={"text": "an awful plot"})
    assert reply.status_code == 500
    assert fits_schema(schemas["500"], reply.json())
    assert not fits_schema(schemas["503"], reply.json())


def fits_schema(schema: dict[str, Any], value: object) -> bool:
    return jsonschema_rs.is_valid({**schema, "components": {"schemas": SCHEMAS}}, value)


def test_a_trace_tells_what_was_told(make_kit: MakeKit, champion: Bundle) -> None:
    kit = kit_with(make_kit, champion, withhold("good"), {"name": "on-word", "word": "okay", "act": "rename"})
    told = []
    for row in kit.client.post("/predict", json={"text": TEXTS}).json():
        event = find_event(kit.events_dir, row["prediction_id"])
        assert event is not None
        found = Trace(event, None, None, None, None, (), None, ())
        told.append(rows(found)[3])
        assert found.as_dict()["event"]["withheld"] == event.withheld
        assert rows(found)[2][1].startswith(str(event.label))
    assert (told[0], told[1][0], told[2]) == (("withheld", "of the word"), "latency", ("told as", "unsure"))
