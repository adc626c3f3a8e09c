"""The reference profile: what texts, and the model's answers to them, look like when all is well.

It travels in the bundle as `profile.parquet`; monitoring builds the same columns from prediction
events and compares. One row a text:

    text · characters words mean_word_length non_letter_share upper_share sentences · tokens ·
    label confidence score_<label>… · pooled_0…

That is of text-classification. What the model answers stands in fewer columns for other tasks: score_<label>…
for several labels, value for a number, confidence (the mean over the tokens) for tags, loss (nats a token) for
a language model.

Legend: N = rows, C = labels, D = dimensions of the projection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.runtime.scores import next_token_losses
from lnmt.stats.projection import project
from lnmt.text.processors import text_chain
from lnmt.types import PER_TOKEN

if TYPE_CHECKING:
    import pyarrow as pa

    from lnmt.runtime.predictor import Predictor

PROFILE = "profile.parquet"
MAX_ROWS = 2000
_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)")


def describe(texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Descriptors of each text, name → [N]: counts, mean word length in characters, shares in 0…1."""
    rows = [_describe(text) for text in texts]
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(DESCRIPTORS))
    return {name: columns[:, index] for index, name in enumerate(DESCRIPTORS)}


DESCRIPTORS = ("characters", "words", "mean_word_length", "non_letter_share", "upper_share", "sentences")


def _describe(text: str) -> tuple[float, ...]:
    words = text.split()
    letters = sum(map(str.isalpha, text))
    filled = sum(map(len, words))
    return (
        len(text),
        len(words),
        filled / max(len(words), 1),
        (filled - letters) / max(filled, 1),
        sum(map(str.isupper, text)) / max(letters, 1),
        max(len(_SENTENCE.findall(text)), 1),
    )


def answer_columns(
    labels: Sequence[str],
    scores: NDArray[np.floating[Any]],
    projected: NDArray[np.floating[Any]],
    tokens: NDArray[np.integer[Any]],
) -> dict[str, Any]:
    """The model's columns, name → [N]: scores [N, C] in the order of `labels`, projected pooled states [N, D]."""
    answers = {
        "label": [labels[place] for place in scores.argmax(axis=1)],
        "confidence": np.asarray(scores.max(axis=1), dtype=np.float64),
        **{f"score_{name}": np.asarray(scores[:, index], np.float64) for index, name in enumerate(labels)},
    }
    return _whole(tokens, answers, projected)


def reference_profile(predictor: Predictor, texts: Sequence[str], seed: int) -> pa.Table:
    """The profile of at most 2,000 of `texts`, drawn by `seed`, in their order.

    Give it texts that the model was not trained on (the validation split): on others its scores are
    surer than they will be in service. The texts themselves are kept, after the bundle's processors,
    for the classifier that tells a window's texts from them.
    """
    import pyarrow as pa

    chosen = np.arange(len(texts))
    if len(texts) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(texts), MAX_ROWS, replace=False))
    process = text_chain(predictor.bundle.manifest.processors)
    kept = [texts[index] for index in chosen.tolist()]
    processed = [process(text) for text in kept]
    answers = _columns_by_token(predictor, kept) if predictor.task in PER_TOKEN else _columns(predictor, kept)
    return pa.table({"text": pa.array(processed, pa.string()), **describe(processed), **answers})


def _columns(predictor: Predictor, texts: Sequence[str]) -> dict[str, Any]:
    """The answers of a task with one answer a text, name → [N]."""
    output, tokens = predictor.outputs(texts)
    projected = project(output.pooled)
    if predictor.task == "text-regression":
        return _whole(tokens, {"value": output.logits[:, 0].astype(np.float64)}, projected)
    scores = predictor.scores(output.logits)
    columns = answer_columns(predictor.labels, scores, projected, tokens)
    if predictor.task == "multi-label-classification":  # no label is the one, and no score the confidence
        del columns["label"], columns["confidence"]
    return columns


def _columns_by_token(predictor: Predictor, texts: Sequence[str]) -> dict[str, Any]:
    """The answers of a task that answers by token, as one number a text, name → [N]."""
    rows = predictor.encode(texts)
    numbers = np.empty(len(rows), dtype=np.float64)
    pooled: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(rows)
    for places, batch, output in predictor.run_rows(rows):
        for place, ids, logits, state in zip(places, batch.input_ids, output.logits, output.pooled, strict=True):
            length = len(rows[place])
            pooled[place] = state
            if predictor.task == "text-generation":
                losses = next_token_losses(logits[:length], ids[:length])
                numbers[place] = losses.mean() if len(losses) else 0.0  # a text of no tokens has none
            else:
                numbers[place] = predictor.scores(logits[:length]).max(axis=1).mean()
    name = "loss" if predictor.task == "text-generation" else "confidence"
    tokens = np.array([len(row) for row in rows], dtype=np.int64)
    return _whole(tokens, {name: numbers}, project(np.stack(pooled)))


def _whole(
    tokens: NDArray[np.integer[Any]], answers: dict[str, Any], projected: NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Tokens, answers and projected pooled states [N, D] beside each other."""
    dimensions = {f"pooled_{index}": np.asarray(projected[:, index], np.float64) for index in range(projected.shape[1])}
    return {"tokens": np.asarray(tokens, dtype=np.float64), **answers, **dimensions}
