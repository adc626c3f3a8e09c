"""A bundle and its engine as one callable: texts in, predictions out.

Legend: B = rows of a batch, N = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime import ENGINES, Engine
from lnmt.runtime.answers import answer_texts
from lnmt.runtime.scores import to_scores
from lnmt.text.processors import text_chain
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import PER_TOKEN, Batch, Output

if TYPE_CHECKING:
    from lnmt.text.bulk import BulkEncoder

# Logits of a batch that may stand in memory: 256 MiB. A vocabulary of 50,000 reaches it at 1,300 tokens.
MAX_LOGITS = 2**26


class Predictor:
    """Processors → tokeniser → engine → calibrated scores."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.task = manifest.task
        self.labels = tuple(manifest.labels)
        self.engine = engine
        self.tokenizer = Tokenizer(bundle.file("tokenizer.json"), manifest.max_tokens)
        self._process = text_chain(manifest.processors)

    @classmethod
    def open(cls, bundle: Bundle, *, threads: int | None = None, cache: Path | None = None) -> Predictor:
        """Load the bundle's engine and warm it up."""
        engine = ENGINES.get(bundle.manifest.engine, where=f"{bundle.path / 'bundle.json'}: engine")()
        engine.load(bundle, threads=threads, cache=cache)
        engine.warm_up()
        return cls(bundle, engine)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids after the bundle's processors, cut to `max_tokens`.

        For token-classification words are kept apart, as `encode_words` does; for text-generation the
        token that ends a text stands before it, as in training: the first token too follows from something.
        """
        if self.task == "token-classification":
            return self.encode_words(self.words(texts))[0]
        rows = self.tokenizer.encode([self._process(text) for text in texts])
        if self.task == "text-generation":
            return [[self.tokenizer.end_id, *row][: self.tokenizer.max_tokens] for row in rows]
        return rows

    def documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts, however long: the token that ends a text, the text's own, and that token again."""
        import pyarrow as pa

        found = self._bulk.documents(pa.array([self._process(text) for text in texts], pa.string()))
        ends = np.cumsum(found.lengths).tolist()
        return [
            [self.tokenizer.end_id, *found.values[start:end].tolist()]
            for start, end in zip([0, *ends], ends, strict=False)
        ]

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words that tags stand for: what white space separates, after the bundle's processors."""
        return [self._process(text).split() for text in texts]

    def encode_words(self, words: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int | None]]]:
        """Token ids of rows of words, and where each word begins in them.

        None for a word that was cut off, or that the tokenizer has no token for.
        """
        return self.tokenizer.encode_words(words)

    def pad(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Rows of token ids as one batch, padded as the bundle says."""
        return self.tokenizer.pad(rows, self.bundle.manifest.pad_multiple)

    def infer(self, rows: Sequence[Sequence[int]]) -> Output:
        """Run rows of token ids as one padded batch."""
        return self.engine.infer(self.pad(rows))

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities of logits [..., C]: the softmax or, for several labels, the sigmoid of each."""
        return to_scores(logits, self.task, self.bundle.manifest.temperature)

    def run(self, texts: Sequence[str], batch_size: int = 32) -> Iterator[tuple[NDArray[np.int64], Batch, Output]]:
        """`run_rows` of the texts' token ids."""
        return self.run_rows(self.encode(texts), batch_size)

    def run_rows(
        self, rows: Sequence[Sequence[int]], batch_size: int = 32
    ) -> Iterator[tuple[NDArray[np.int64], Batch, Output]]:
        """Run rows of token ids in batches of similar lengths, so that little is padding.

        Yields the places [B] of a batch's rows, the padded batch, and its output, one batch in memory at
        a time; a batch has fewer than `batch_size` rows where its logits would be more than MAX_LOGITS.
        """
        order = np.argsort([len(row) for row in rows], kind="stable").astype(np.int64)
        start = 0
        while start < len(order):
            chosen = order[start : start + self._fitting([len(rows[at]) for at in order[start : start + batch_size]])]
            batch = self.pad([rows[at] for at in chosen])
            yield chosen, batch, self.engine.infer(batch)
            start += len(chosen)

    def outputs(self, texts: Sequence[str], batch_size: int = 32) -> tuple[Output, NDArray[np.int64]]:
        """Logits [N, C] and pooled states [N, H] in the order of `texts`, and the tokens of each.

        Raises LnmtError for a task that answers by token: its logits are taken batch by batch, from `run`.
        """
        if self.task in PER_TOKEN:
            raise LnmtError(
                "the logits of all tokens of all texts are too many to give at once",
                where="Predictor.outputs",
                value=self.task,
                allowed="a task with one answer a text",
                fix="use Predictor.run, batch by batch, or Predictor.predict",
            )
        rows = self.encode(texts)
        logits = np.empty((len(rows), len(self.labels) or 1), dtype=np.float32)
        pooled: NDArray[np.float32] | None = None
        for places, _, output in self.run_rows(rows, batch_size):
            if pooled is None:
                pooled = np.empty((len(rows), output.pooled.shape[1]), dtype=np.float32)
            logits[places] = output.logits
            pooled[places] = output.pooled
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return Output(logits, np.empty((0, 0), dtype=np.float32) if pooled is None else pooled), lengths

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Any]:
        """One prediction a text, in order, of the kind in `lnmt.types` that fits the bundle's task:

        Prediction, LabelsPrediction, NumberPrediction, TagsPrediction or TextPrediction.
        """
        return list(answer_texts(self, texts, batch_size))

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    @cached_property
    def _bulk(self) -> BulkEncoder:
        from lnmt.text.bulk import BulkEncoder

        return BulkEncoder(self.tokenizer)

    def _fitting(self, lengths: Sequence[int]) -> int:
        """How many of rows of these rising lengths make one batch; at least one."""
        width = self.tokenizer.vocabulary if self.task == "text-generation" else len(self.labels) or 1
        multiple = self.bundle.manifest.pad_multiple
        count = len(lengths)
        while count > 1 and count * -(-lengths[count - 1] // multiple) * multiple * width > MAX_LOGITS:
            count -= 1
        return count
