"""Rows from the cache where they are known, from the engine where they are not."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lnmt.observability.series import Lookup
from lnmt.serving.batching.batcher import Batcher
from lnmt.serving.batching.row import Expired, Left, QueueFull, Retired, Row
from lnmt.serving.cache import ResponseCache, SingleFlight, cache_key
from lnmt.serving.postprocessors import Reply


@dataclass(frozen=True)
class Call:
    """Who asks, and until when."""

    owner: str = "local"  # the principal's id
    deadline: float = math.inf  # monotonic seconds
    gone: asyncio.Future[None] | None = None  # done once the caller has hung up; None where nobody tells


ANYONE = Call()


@dataclass(frozen=True)
class Found:
    """A row, whether another request's work gave it, and what postprocessors made of it."""

    row: Row
    cached: bool
    reply: Reply | None = None  # None: what the model said
    by: str | None = None  # the postprocessor that withheld the answer, or failed


class CachedAnswers:
    """Asks the cache before a batcher. `count` is told what the cache had for each text.

    A text that is being worked on for one request is not worked on for another: it waits for that. A
    list asks the engine for what is new in it, all together.
    """

    def __init__(self, cache: ResponseCache, count: Callable[[Lookup], None]) -> None:
        self._cache = cache
        self._count = count
        self._flights = SingleFlight[Row](QueueFull, Retired, Expired, Left)

    async def rows(self, batcher: Batcher, texts: Sequence[str], call: Call) -> list[Found]:
        """One row a text, in order. Raises as `Batcher.answer` does."""
        keys = [cache_key(batcher.predictor.bundle.digest, text) for text in texts]
        unique = list(dict.fromkeys(keys))
        kept = dict(zip(unique, await asyncio.gather(*map(self._cache.get, unique)), strict=True))
        found = {key: Found(Row(value, None, 0, 0, 0), cached=True) for key, value in kept.items() if value is not None}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if len(texts) == 1 and new:
            row, joined = await self._alone(batcher, keys[0], texts[0], call)
            self._count("joined" if joined else "miss")
            return [Found(row, joined)]
        if new:
            rows = await batcher.answer(list(new.values()), call.owner, call.deadline, call.gone)
            await asyncio.gather(*map(self._keep, new, rows))
            found.update((key, Found(row, cached=False)) for key, row in zip(new, rows, strict=True))
        first = set(new)  # a text that the list has twice was asked once
        answers = []
        for key in keys:
            answers.append(found[key] if key in first or found[key].cached else Found(found[key].row, cached=True))
            self._count("miss" if key in first else "joined" if key in new else "hit")
            first.discard(key)
        return answers

    async def _alone(self, batcher: Batcher, key: bytes, text: str, call: Call) -> tuple[Row, bool]:
        async def work() -> Row:
            [row] = await batcher.answer([text], call.owner, call.deadline, call.gone)
            await self._keep(key, row)
            return row

        left_s = None if call.deadline == math.inf else call.deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await self._flights.run(key, work)
        except TimeoutError:
            raise Expired from None

    async def _keep(self, key: bytes, row: Row) -> None:
        if row.prediction is not None:
            await self._cache.put(key, row.prediction)
