"""Commands for Redis that come together go to it together: one connection, one round trip at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

Command = tuple[str | bytes | int, ...]
Asked = tuple[Command, asyncio.Future[Any]]


class RoundTrips:
    """Asks a server; whoever comes while a round trip is under way shares the next one.

    A client library's own way, a connection for each question under way, costs five times as much where
    many ask at once (`docs/log.md`). A round trip takes at most `timeout_s`, so an answer twice that;
    where one fails, those who wait for the next fail with it. `ended` is told its error, or None.
    """

    def __init__(self, client: Redis, timeout_s: float, ended: Callable[[Exception | None], None]) -> None:
        self._client = client
        self.timeout_s = timeout_s
        self._ended = ended
        self._waiting: list[Asked] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The server's answer; an exception, returned and not raised, where there is none."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def close(self) -> None:
        """End the connection; what is under way is given up."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        asked, self._waiting = self._waiting, []
        _give(asked, [ConnectionAbortedError("closed")] * len(asked))
        await self._client.aclose()

    async def _send(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    answers: list[Any] = await self._round_trip([command for command, _ in asked])
                except Exception as error:  # whatever it is, nobody is left waiting
                    asked, self._waiting = asked + self._waiting, []
                    answers = [error] * len(asked)
                    self._ended(error)
                except asyncio.CancelledError:
                    self._waiting = asked + self._waiting
                    raise
                else:
                    self._ended(None)
                _give(asked, answers)
        finally:
            self._sender = None

    async def _round_trip(self, commands: list[Command]) -> list[Any]:
        loop = asyncio.get_running_loop()
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        async with asyncio.timeout(None) as bound:
            # Time is up one turn of the loop later: an answer that came while the loop was busy is still taken.
            timer = loop.call_later(self.timeout_s, lambda: bound.reschedule(loop.time()))
            try:
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
            finally:
                timer.cancel()
        return answers


def _give(asked: list[Asked], answers: list[Any]) -> None:
    for (_, future), answer in zip(asked, answers, strict=True):
        if not future.done():  # else whoever asked has left
            future.set_result(answer)
