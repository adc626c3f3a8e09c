"""Calls that come in one turn of the event loop, done together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Turn(Generic[T, R]):
    """`work` gets what the calls of a turn were given, in order, and gives as many results. What it raises, all raise.

    A batch's rows are answered in one turn, and their callers' next requests mostly come in one: what then is done
    once finds its code and tables in the processor's cache, and gives up the interpreter once.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._work = work
        self._waiting: defaultdict[asyncio.AbstractEventLoop, list[tuple[T, asyncio.Future[R]]]] = defaultdict(list)

    async def __call__(self, given: T) -> R:
        """The result for `given`, at the end of this turn."""
        loop = asyncio.get_running_loop()
        waiting, future = self._waiting[loop], loop.create_future()
        waiting.append((given, future))
        if len(waiting) == 1:
            loop.call_soon(self._do, loop)
        found: R = await future
        return found

    def _do(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting.pop(loop)
        try:
            results = self._work([given for given, _ in waiting])
        except Exception as error:  # whatever it is, it is the callers' to handle
            for _, future in waiting:
                if not future.done():  # a caller who left
                    future.set_exception(error)
            return
        for (_, future), result in zip(waiting, results, strict=True):
            if not future.done():
                future.set_result(result)
