from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnmt.params import Plugin
from lnmt.runtime import profile as module
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.profile import DESCRIPTORS, answer_columns, describe, reference_profile
from lnmt.runtime.scores import next_token_losses
from lnmt.stats.projection import project
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.tiny_bundle import LABELS, WORDS, tiny_bundle


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    bundle = tiny_bundle(tmp_path_factory.mktemp("profile") / "bundle", processors=[Plugin(name="whitespace")])
    return Predictor.open(bundle)


def test_descriptors_of_known_texts() -> None:
    found = describe(["It IS great! Really... yes", "", "42"])
    assert tuple(found) == DESCRIPTORS
    assert found["characters"].tolist() == [26, 0, 2]
    assert found["words"].tolist() == [5, 0, 1]
    assert found["mean_word_length"].tolist() == [22 / 5, 0, 2]
    assert found["non_letter_share"].tolist() == [4 / 22, 0, 1]
    assert found["upper_share"].tolist() == [4 / 18, 0, 0]
    assert found["sentences"].tolist() == [2, 1, 1]


def test_no_texts_are_empty_columns() -> None:
    assert {name: len(column) for name, column in describe([]).items()} == dict.fromkeys(DESCRIPTORS, 0)


def test_answers_are_one_column_a_label_and_a_dimension() -> None:
    scores, projected = np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([[1.0], [2.0]])
    found = answer_columns(["no", "yes"], scores, projected, np.array([3, 4]))
    assert {name: list(column) for name, column in found.items()} == {
        "tokens": [3.0, 4.0],
        "label": ["yes", "no"],
        "confidence": [0.9, 0.7],
        "score_no": [0.1, 0.7],
        "score_yes": [0.9, 0.3],
        "pooled_0": [1.0, 2.0],
    }


def test_a_profile_holds_what_the_predictor_says(predictor: Predictor) -> None:
    texts = ["the  film was good", "a bad book", "awful"]
    table = reference_profile(predictor, texts, seed=0)
    predictions = predictor.predict(texts)
    assert table["text"].to_pylist() == ["the film was good", "a bad book", "awful"]
    assert table["characters"].to_pylist() == [17, 10, 5]
    assert table["label"].to_pylist() == [one.label for one in predictions]
    assert table["tokens"].to_pylist() == [one.tokens for one in predictions]
    for label in LABELS:
        assert table[f"score_{label}"].to_pylist() == pytest.approx([one.scores[label] for one in predictions])
    assert [table[f"pooled_{index}"][2].as_py() for index in range(8)] == pytest.approx(
        project(predictions[2].pooled), abs=1e-5
    )


def test_a_large_profile_is_a_sample_that_the_seed_decides(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    texts = [f"{WORDS[index % 25]} {index}" for index in range(40)]
    first, again, other = (reference_profile(predictor, texts, seed)["text"].to_pylist() for seed in (1, 1, 2))
    assert len(first) == 10
    assert first == again != other
    assert first == [text for text in texts if text in first]


ANSWERS: dict[Task, list[str]] = {
    "multi-label-classification": ["score_film", "score_phone", "score_price"],
    "text-regression": ["value"],
    "token-classification": ["confidence"],
    "text-generation": ["loss"],
}


@pytest.mark.parametrize("task", list(ANSWERS))
def test_the_profile_of_another_task_has_its_answers(task: Task, tmp_path: Path) -> None:
    opened = Predictor.open(task_bundle(tmp_path / "bundle", task, temperature=2.0), threads=1)
    texts = ["a good film", "anna visits paris and rome", "this"]
    found = reference_profile(opened, texts, seed=0).to_pydict()
    pooled = [name for name in found if name.startswith("pooled_")]
    assert list(found) == ["text", *DESCRIPTORS, "tokens", *ANSWERS[task], *pooled]
    rows = opened.encode(texts)
    assert found["tokens"] == [len(row) for row in rows]
    outputs = [opened.infer([row]) for row in rows]
    np.testing.assert_allclose(
        np.array([found[name] for name in pooled]).T,
        project(np.concatenate([one.pooled for one in outputs])),
        atol=1e-5,
    )
    first = outputs[0].logits[0]
    expected = {
        "multi-label-classification": lambda: float(1 / (1 + np.exp(-first[0] / 2.0))),
        "text-regression": lambda: float(first[0]),
        "token-classification": lambda: float(opened.scores(first[: len(rows[0])]).max(axis=1).mean()),
        "text-generation": lambda: float(next_token_losses(first[: len(rows[0])], np.array(rows[0])).mean()),
    }[task]()
    assert found[ANSWERS[task][0]][0] == pytest.approx(expected, abs=1e-5)
    opened.close()
