"""Texts → predictions, by task.

Legend: T = tokens and W = words of a text, C = labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lnmt.runtime.scores import next_token_losses
from lnmt.types import (
    AnyPrediction,
    LabelsPrediction,
    NumberPrediction,
    Prediction,
    TagsPrediction,
    Task,
    TextPrediction,
)

if TYPE_CHECKING:
    from lnmt.runtime.predictor import Predictor


def answer_texts(predictor: Predictor, texts: Sequence[str], batch_size: int) -> Sequence[AnyPrediction]:
    """One prediction a text, in order."""
    return ANSWERS[predictor.task](predictor, texts, batch_size)


def _label(predictor: Predictor, texts: Sequence[str], batch_size: int) -> list[Prediction]:
    output, lengths = predictor.outputs(texts, batch_size)
    scores = predictor.scores(output.logits)
    return [
        Prediction(
            label=predictor.labels[int(row.argmax())],
            scores=dict(zip(predictor.labels, row.tolist(), strict=True)),
            tokens=int(length),
            pooled=pooled,
        )
        for row, length, pooled in zip(scores, lengths, output.pooled, strict=True)
    ]


def _labels(predictor: Predictor, texts: Sequence[str], batch_size: int) -> list[LabelsPrediction]:
    output, lengths = predictor.outputs(texts, batch_size)
    predictions = []
    for row, length in zip(predictor.scores(output.logits).tolist(), lengths.tolist(), strict=True):
        scores = dict(zip(predictor.labels, row, strict=True))
        chosen = tuple(name for name, score in scores.items() if score >= 0.5)
        predictions.append(LabelsPrediction(chosen, scores, length))
    return predictions


def _number(predictor: Predictor, texts: Sequence[str], batch_size: int) -> list[NumberPrediction]:
    output, lengths = predictor.outputs(texts, batch_size)
    return [
        NumberPrediction(value, length)
        for value, length in zip(output.logits[:, 0].tolist(), lengths.tolist(), strict=True)
    ]


def _tags(predictor: Predictor, texts: Sequence[str], batch_size: int) -> list[TagsPrediction]:
    return [
        TagsPrediction(
            tuple(one.words),
            tuple(None if place is None else predictor.labels[place] for place in one.tags()),
            one.tokens,
        )
        for one in tag_words(predictor, texts, batch_size)
    ]


def _text(predictor: Predictor, texts: Sequence[str], batch_size: int) -> list[TextPrediction]:
    return [
        TextPrediction(float(one.losses.mean()), len(one.losses)) for one in expect_tokens(predictor, texts, batch_size)
    ]


@dataclass
class TaggedWords:
    """One text of token-classification."""

    words: list[str]  # W of them
    logits: NDArray[np.float32]  # [W, C], at each word's first token; NaN for a word that has none
    tokens: int = 0

    def tags(self) -> list[int | None]:
        """The likeliest tag of each word, by its place; None for a word without a token."""
        return [None if np.isnan(row).any() else int(row.argmax()) for row in self.logits]


def tag_words(predictor: Predictor, texts: Sequence[str], batch_size: int = 32) -> list[TaggedWords]:
    """The logits of every word of each text, in order.

    A text of more than `max_tokens` tokens is answered in parts that begin at words: no word goes without.
    """
    labels = len(predictor.labels)
    found = [TaggedWords(words, np.full((len(words), labels), np.nan, np.float32)) for words in predictor.words(texts)]
    parts = [(text, 0) for text in range(len(found))]  # of which text, from which word on
    while parts:
        rows, starts = predictor.encode_words([found[text].words[first:] for text, first in parts])
        for places, _, output in predictor.run_rows(rows, batch_size):
            for place, logits in zip(places.tolist(), output.logits, strict=True):
                text, first = parts[place]
                found[text].tokens += len(rows[place])
                begins = starts[place]
                known = [word for word, start in enumerate(begins) if start is not None]
                found[text].logits[[first + word for word in known]] = logits[[begins[word] for word in known]]
        parts = _cut_off(predictor, parts, rows, starts)
    return found


def _cut_off(
    predictor: Predictor,
    parts: Sequence[tuple[int, int]],
    rows: Sequence[Sequence[int]],
    starts: Sequence[Sequence[int | None]],
) -> list[tuple[int, int]]:
    """Where the parts that filled their row go on: after the last word that has a token, at least one word on."""
    left = []
    for (text, first), row, begins in zip(parts, rows, starts, strict=True):
        reached = max((word + 1 for word, start in enumerate(begins) if start is not None), default=1)
        if len(row) == predictor.tokenizer.max_tokens and reached < len(begins):
            left.append((text, first + reached))
    return left


@dataclass(frozen=True)
class ExpectedTokens:
    """One text of text-generation: each of its T tokens and the one that ends it, given those before."""

    tokens: NDArray[np.int64]  # [T]
    losses: NDArray[np.float32]  # [T], −log p in nats
    likeliest: NDArray[np.int64]  # [T], the token that was expected most in its place


def expect_tokens(predictor: Predictor, texts: Sequence[str], batch_size: int = 32) -> list[ExpectedTokens]:
    """How expected the tokens of each text are, in order; only one batch's logits are in memory at a time.

    A text of more than `max_tokens` tokens is read in windows that begin with the last token of the one
    before, so that every token is predicted once.
    """
    step = max(predictor.tokenizer.max_tokens - 1, 1)
    windows = [
        (text, row[start : start + step + 1])
        for text, row in enumerate(predictor.documents(texts))
        for start in range(0, len(row) - 1, step)
    ]
    found: dict[int, ExpectedTokens] = {}  # by place of the window
    for places, batch, output in predictor.run_rows([row for _, row in windows], batch_size):
        for place, ids, logits in zip(places.tolist(), batch.input_ids, output.logits, strict=True):
            length = len(windows[place][1])
            losses = next_token_losses(logits[:length], ids[:length])
            found[place] = ExpectedTokens(ids[1:length], losses, logits[: length - 1].argmax(axis=1))
    parts: list[list[ExpectedTokens]] = [[] for _ in texts]
    for place, (text, _) in enumerate(windows):
        parts[text].append(found[place])
    return [
        ExpectedTokens(
            np.concatenate([part.tokens for part in one]),
            np.concatenate([part.losses for part in one]),
            np.concatenate([part.likeliest for part in one]),
        )
        for one in parts
    ]


ANSWERS: Mapping[Task, Callable[[Predictor, Sequence[str], int], Sequence[AnyPrediction]]] = {
    "text-classification": _label,
    "multi-label-classification": _labels,
    "text-regression": _number,
    "token-classification": _tags,
    "text-generation": _text,
}
