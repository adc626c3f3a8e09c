"""The reference profile: what texts, and the model's answers to them, look like when all is well.

It travels in the bundle as `profile.parquet`; monitoring builds the same columns from prediction
events and compares. One row a text:

    text · characters words mean_word_length non_letter_share upper_share sentences · tokens ·
    label confidence score_<label>… · pooled_0…

Legend: N = rows, C = labels, D = dimensions of the projection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.stats.projection import project
from lnmt.text.processors import text_chain

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
    return {
        "tokens": np.asarray(tokens, dtype=np.float64),
        "label": [labels[place] for place in scores.argmax(axis=1)],
        "confidence": np.asarray(scores.max(axis=1), dtype=np.float64),
        **{f"score_{name}": np.asarray(scores[:, index], np.float64) for index, name in enumerate(labels)},
        **{f"pooled_{index}": np.asarray(projected[:, index], np.float64) for index in range(projected.shape[1])},
    }


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
    output, tokens = predictor.outputs(kept)
    answers = answer_columns(predictor.labels, predictor.scores(output.logits), project(output.pooled), tokens)
    return pa.table({"text": pa.array(processed, pa.string()), **describe(processed), **answers})
