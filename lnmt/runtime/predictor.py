"""A bundle and its engine as one callable: texts in, predictions out.

Legend: B = rows, C = labels, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.runtime import ENGINES, Engine
from lnmt.text.processors import text_chain
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import Batch, Output, Prediction


class Predictor:
    """Processors → tokeniser → engine → calibrated scores."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
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
        """Token ids after the bundle's processors."""
        return self.tokenizer.encode([self._process(text) for text in texts])

    def pad(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Rows of token ids as one batch, padded as the bundle says."""
        return self.tokenizer.pad(rows, self.bundle.manifest.pad_multiple)

    def infer(self, rows: Sequence[Sequence[int]]) -> Output:
        """Run rows of token ids as one padded batch."""
        return self.engine.infer(self.pad(rows))

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities [B, C]: softmax(logits / temperature)."""
        scaled = logits / self.bundle.manifest.temperature
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)

    def outputs(self, texts: Sequence[str], batch_size: int = 32) -> tuple[Output, NDArray[np.int64]]:
        """Logits and pooled states in the order of `texts`, and the tokens of each.

        Rows run sorted by length, so that little is padding.
        """
        rows = self.encode(texts)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        logits = np.empty((len(rows), len(self.labels)), dtype=np.float32)
        pooled: NDArray[np.float32] | None = None
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            output = self.infer([rows[index] for index in chosen])
            if pooled is None:
                pooled = np.empty((len(rows), output.pooled.shape[1]), dtype=np.float32)
            logits[chosen] = output.logits
            pooled[chosen] = output.pooled
        return Output(logits, np.empty((0, 0), dtype=np.float32) if pooled is None else pooled), lengths

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """One prediction a text, in order."""
        output, lengths = self.outputs(texts, batch_size)
        scores = self.scores(output.logits)
        return [
            Prediction(
                label=self.labels[int(row.argmax())],
                scores=dict(zip(self.labels, row.tolist(), strict=True)),
                tokens=int(length),
                pooled=pooled,
            )
            for row, length, pooled in zip(scores, lengths, output.pooled, strict=True)
        ]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
