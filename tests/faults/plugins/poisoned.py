"""An engine that spoils what it computes for some tokens, and a processor that raises at a word.

poisoned.json: `not_finite` and `wrong_shape`, token ids; `word`, at which the processor raises; `log`, a file that
gets a line for each spoilt batch: the number of its rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lnmt.bundles import Bundle
from lnmt.data import BaseProcessor
from lnmt.plugins import register_processor
from lnmt.runtime import ENGINES, Engine
from lnmt.types import Batch, Output


def told() -> dict[str, Any]:
    """What stands in poisoned.json."""
    found: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return found


@ENGINES.register("poison")
class PoisonEngine:
    """PyTorch's answers, but no numbers for rows with one token, and a row too few for batches with another.

    It checks nothing, as an engine should: whoever asks it has to.
    """

    def __init__(self) -> None:
        self._told = told()
        self._inner: Engine = ENGINES.get("torch")()

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        self._inner.load(bundle, threads=threads, cache=cache)

    def warm_up(self) -> None:
        self._inner.warm_up()

    def infer(self, batch: Batch) -> Output:
        output = self._inner.infer(batch)
        not_finite = (batch.input_ids == self._told["not_finite"]).any(axis=1)
        wrong_shape = bool((batch.input_ids == self._told["wrong_shape"]).any())
        if wrong_shape or not_finite.any():
            with Path(self._told["log"]).open("a", encoding="utf-8") as file:
                file.write(f"{len(batch.input_ids)}\n")
        if wrong_shape:
            return Output(output.logits[:-1], output.pooled[:-1])
        logits = output.logits.copy()
        logits[not_finite] = np.nan
        return Output(logits, output.pooled)

    def close(self) -> None:
        self._inner.close()


@register_processor("raises")
class Raises(BaseProcessor):
    """Leaves texts as they are, where it does not raise."""

    def __init__(self) -> None:
        self._word: str = told()["word"]

    def process(self, data: str) -> str:
        if self._word in data.split():
            raise RuntimeError("this processor cannot do it")
        return data
