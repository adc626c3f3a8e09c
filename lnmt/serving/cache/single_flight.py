"""Concurrent questions with one answer are worked on once (Go's `singleflight`, for an event loop)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The first who asks for a key works it out; who asks meanwhile waits for that. Nothing is kept afterwards.

    Whoever leaves (a client who hung up, a deadline) takes nobody along: where the one who works leaves,
    one of those who wait begins anew. An error reaches all who wait, unless it is one of `own`, which
    concern only the one who worked: then too one of the others begins anew.
    """

    def __init__(self, *own: type[Exception]) -> None:
        self._own = own
        self._flights: dict[bytes, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        """Keys that are being worked on."""
        return len(self._flights)

    async def run(self, key: bytes, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The value, and whether another's work gave it. Raises what `work` raises."""
        while (flight := self._flights.get(key)) is not None:
            await asyncio.wait([flight])  # which leaves the flight alone where this waiter is cancelled
            if not flight.cancelled():
                return flight.result(), True
        return await self._lead(key, work), False

    async def _lead(self, key: bytes, work: Callable[[], Awaitable[T]]) -> T:
        flight: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            value = await work()
            flight.set_result(value)
        except self._own:
            raise
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # it was seen: nobody need be waiting
            raise
        finally:
            del self._flights[key]
            flight.cancel()  # where it is not done: the work was given up
        return value
