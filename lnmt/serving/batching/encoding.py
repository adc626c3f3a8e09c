"""Texts → token ids, without holding up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice

from lnmt.runtime.predictor import Predictor
from lnmt.serving.turns import Turn

Encoded = list[list[int] | Exception]  # of each text its token ids, or the error that it met

BESIDE_S = 0.001  # what takes longer to tokenise is done beside the event loop, which stays free meanwhile


class Encoder:
    """Tokenises the texts of one turn of the event loop together, long ones in a thread beside it."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._character_s = 2e-7  # running mean; a processor of a plugin may be slow
        self._together = Turn(self._encode_calls)

    async def __call__(self, texts: Sequence[str]) -> Encoded:
        """What became of each text."""
        if sum(map(len, texts)) * self._character_s > BESIDE_S:
            return await asyncio.to_thread(self._encode, texts)
        return await self._together(texts)

    def _encode_calls(self, calls: Sequence[Sequence[str]]) -> list[Encoded]:
        found = iter(self._encode([text for texts in calls for text in texts]))
        return [list(islice(found, len(texts))) for texts in calls]

    def _encode(self, texts: Sequence[str]) -> Encoded:
        began = time.perf_counter()
        try:
            found: Encoded = [*self._predictor.encode(texts)]
        except Exception:  # whatever a processor raises concerns its text alone
            found = [self._encode_one(text) for text in texts]
        took = (time.perf_counter() - began) / max(1, sum(map(len, texts)))
        self._character_s += 0.05 * (took - self._character_s)
        return found

    def _encode_one(self, text: str) -> list[int] | Exception:
        try:
            return self._predictor.encode([text])[0]
        except Exception as error:
            return error
