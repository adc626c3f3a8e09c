"""Every task from texts to predictions, and through every engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import Candidate
from lnmt.params import Plugin
from lnmt.runtime import predictor as module
from lnmt.runtime.answers import expect_tokens, tag_words
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.scores import next_token_losses, to_scores
from lnmt.types import (
    PER_TOKEN,
    LabelsPrediction,
    NumberPrediction,
    TagsPrediction,
    Task,
    TextPrediction,
)
from tests.runtime.conftest import ENGINES
from tests.task_bundle import MAX_TOKENS, task_bundle
from tests.task_kit import LABELS, TASKS, task_rows
from tests.tiny_bundle import WORDS

OTHERS = TASKS[1:]


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Task, Predictor]]:
    root = tmp_path_factory.mktemp("tasks")
    opened = {
        task: Predictor.open(
            task_bundle(root / task, task, temperature=1.0 if task == "text-generation" else 2.0), threads=1
        )
        for task in TASKS
    }
    yield opened
    for predictor in opened.values():
        predictor.close()


def texts_of(task: Task, rows: int = 8) -> list[str]:
    return [row["text"] for row in task_rows(task, rows)]


@pytest.mark.parametrize("task", OTHERS)
def test_predictions_come_in_the_order_of_the_texts(predictors: dict[Task, Predictor], task: Task) -> None:
    predictor = predictors[task]
    texts = texts_of(task)
    together = predictor.predict(texts, batch_size=3)
    assert len(together) == len(texts)
    assert [one.tokens for one in together] == [predictor.predict([text])[0].tokens for text in texts]
    assert len({one.tokens for one in together}) > 1
    assert predictor.predict([]) == []


def test_labels_stand_alone_and_those_from_one_half_are_given(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["multi-label-classification"]
    texts = [*WORDS, "a film of the price", "love and hate it"]
    logits = predictor.outputs(texts)[0].logits
    found = predictor.predict(texts)
    for row, one in zip(logits, found, strict=True):
        assert isinstance(one, LabelsPrediction)
        assert list(one.scores) == LABELS["multi-label-classification"]
        np.testing.assert_allclose(list(one.scores.values()), 1 / (1 + np.exp(-row / 2.0)), rtol=1e-5)
        assert one.labels == tuple(name for name, logit in zip(predictor.labels, row, strict=True) if logit >= 0)
    assert len({one.labels for one in found}) > 1


def test_a_sigmoid_of_a_large_logit_is_no_overflow() -> None:
    found = to_scores(np.array([[-1e4, 0.0, 1e4]], np.float32), "multi-label-classification", 1.0)
    assert found.tolist() == [[0.0, 0.5, 1.0]]


def test_a_number_is_the_models_own(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["text-regression"]
    texts = texts_of("text-regression")
    logits = predictor.outputs(texts)[0].logits
    assert logits.shape == (8, 1)
    assert predictor.predict(texts) == [
        NumberPrediction(float(value), len(row))
        for value, row in zip(logits[:, 0], predictor.encode(texts), strict=True)
    ]


def test_every_word_has_the_tag_of_its_first_token(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["token-classification"]
    text = "anna visits  new york"
    [one] = predictor.predict([text])
    rows, [starts] = predictor.encode_words([text.split()])
    logits = predictor.infer(rows).logits[0]
    assert isinstance(one, TagsPrediction)
    assert one.words == ("anna", "visits", "new", "york")
    assert one.tags == tuple(predictor.labels[int(logits[start].argmax())] for start in starts if start is not None)
    assert None not in starts
    assert one.tokens == len(rows[0])


def test_a_text_longer_than_a_row_is_tagged_to_its_end(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["token-classification"]
    words = ["book", "it"] * 40 + ["x" * 50, "\u200b", "film"]
    [found] = tag_words(predictor, [" ".join(words)])
    assert found.words == words
    first = MAX_TOKENS - 2  # without [CLS] and [SEP], every one of these words being one token
    [head], [begin] = predictor.encode_words([words])
    np.testing.assert_allclose(found.logits[:first], predictor.infer([head]).logits[0][1:-1], atol=1e-5)
    assert begin[first:] == [None] * (len(words) - first)
    [tail], _ = predictor.encode_words([words[first:]])
    np.testing.assert_allclose(found.logits[first : 2 * first], predictor.infer([tail]).logits[0][1:-1], atol=1e-5)
    tags = found.tags()
    assert [place for place, tag in enumerate(tags) if tag is None] == [81]  # the tokenizer drops what has no width


def test_a_word_that_has_no_token_has_no_tag(predictors: dict[Task, Predictor]) -> None:
    assert predictors["token-classification"].predict(["\u200b", ""]) == [
        TagsPrediction(("\u200b",), (None,), 2),
        TagsPrediction((), (), 2),
    ]


def test_the_loss_of_a_text_is_that_of_its_tokens_and_its_end(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["text-generation"]
    text = "anna visits paris, and"
    end = predictor.tokenizer.end_id
    ids = [end, *predictor.tokenizer.encode([text])[0], end]
    assert predictor.encode([text]) == [ids[:-1]]
    assert predictor.documents([text, ""]) == [ids, [end, end]]
    logits = torch.from_numpy(predictor.infer([ids]).logits[0])
    expected = torch.nn.functional.cross_entropy(logits[: len(ids) - 1], torch.tensor(ids[1:]))
    [one] = predictor.predict([text])
    assert isinstance(one, TextPrediction)
    assert one.loss == pytest.approx(float(expected), abs=1e-5)
    assert one.tokens == len(ids) - 1
    assert one.perplexity == pytest.approx(float(torch.exp(expected)), rel=1e-4)
    [likely] = expect_tokens(predictor, [text])
    assert likely.likeliest.tolist() == logits[: len(ids) - 1].argmax(dim=1).tolist()
    assert likely.tokens.tolist() == ids[1:]


def test_a_text_longer_than_a_row_is_read_in_windows(predictors: dict[Task, Predictor]) -> None:
    predictor = predictors["text-generation"]
    text = "anna visits paris, and that is all. " * 10
    [ids] = predictor.documents([text])
    assert len(ids) > 2 * MAX_TOKENS
    [_, found] = expect_tokens(predictor, ["", text])
    assert found.tokens.tolist() == ids[1:]
    for start in (0, MAX_TOKENS - 1):
        window = ids[start : start + MAX_TOKENS]
        expected = next_token_losses(predictor.infer([window]).logits[0], np.array(window))
        np.testing.assert_allclose(found.losses[start : start + MAX_TOKENS - 1], expected, atol=1e-4)


def test_of_a_text_without_tokens_the_end_is_predicted(predictors: dict[Task, Predictor]) -> None:
    [found] = predictors["text-generation"].predict([""])
    assert (found.tokens, found.loss > 0) == (1, True)


def test_losses_do_not_overflow_and_a_row_of_one_has_none() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert next_token_losses(logits, np.array([0, 1])).tolist() == [1000.0]
    assert next_token_losses(logits[:1], np.array([0])).tolist() == []


@pytest.mark.parametrize("task", PER_TOKEN)
def test_logits_by_token_are_not_gathered(predictors: dict[Task, Predictor], task: Task) -> None:
    with pytest.raises(LnmtError, match=r"too many(?s:.*)Predictor\.run"):
        predictors[task].outputs(["anna"])


def test_a_batch_is_smaller_where_its_logits_would_be_too_many(
    predictors: dict[Task, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictors["text-generation"]
    vocabulary = predictor.tokenizer.vocabulary
    rows = [[1] * length for length in (8, 30, 1, 8, 2, 20, 9)]
    monkeypatch.setattr(module, "MAX_LOGITS", 33 * vocabulary)
    found = list(predictor.run_rows(rows, batch_size=5))
    # padded to 8 tokens four rows fit into 33; then 16 is one row of 9, or two would be 48
    assert [places.tolist() for places, _, _ in found] == [[2, 4, 0, 3], [6], [5], [1]]
    for places, batch, output in found:
        assert output.logits.shape == (len(places), batch.input_ids.shape[1], vocabulary)
    assert [len(places) for places, _, _ in predictors["text-regression"].run_rows(rows, batch_size=5)] == [5, 2]


@pytest.mark.parametrize("task", PER_TOKEN)
def test_every_engine_answers_as_pytorch(predictors: dict[Task, Predictor], task: Task, tmp_path: Path) -> None:
    reference = predictors[task]
    texts = [*texts_of(task), "anna " * 60]
    expected = list(reference.run(texts, batch_size=4))
    source = Source(reference.bundle, tmp_path / "work")
    for engine, precision in ENGINES[1:]:
        change = {"engine": engine, "precision": precision}
        draft = {name: getattr(reference.bundle.manifest, name) for name in Draft.model_fields} | change
        target = tmp_path / f"{engine}-{precision}"
        with new_bundle(target, Draft(**draft)) as directory:
            (directory / "tokenizer.json").write_bytes(reference.bundle.file("tokenizer.json").read_bytes())
            BACKENDS.get(engine)().build(Candidate(engine, precision), source, directory)
        opened = Predictor.open(Bundle.open(target), threads=1)
        found = list(opened.run(texts, batch_size=4))
        opened.close()
        tolerance = 1e-4 if precision == "fp32" else 0.3
        for (places, batch, want), (same, _, have) in zip(expected, found, strict=True):
            assert places.tolist() == same.tolist()
            real = batch.attention_mask == 1
            np.testing.assert_allclose(have.logits[real], want.logits[real], atol=tolerance)
            np.testing.assert_allclose(have.pooled, want.pooled, atol=tolerance)


def test_the_bundles_processors_come_before_the_words(tmp_path: Path) -> None:
    bundle = task_bundle(tmp_path / "b", "token-classification", processors=[Plugin(name="unescape")])
    predictor = Predictor.open(bundle, threads=1)
    assert predictor.words(["anna &amp; ben"]) == [["anna", "&", "ben"]]
    predictor.close()
