"""Requests at a fixed rate, whatever becomes of them, and what became of each."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

TIMEOUT_S = 10.0
PREDICTION_ID = re.compile(rb"\r\nx-lnmt-prediction-id: *([^\r]+)", re.IGNORECASE)
BODY = json.dumps({"text": "a good film"}).encode()


@dataclass
class Sent:
    """One request. Times in monotonic seconds."""

    started: float
    target: str = ""
    client_port: int = 0  # of its connection, where it has one of its own
    ended: float = 0.0
    failure: str | None = None
    prediction_id: str | None = None  # of the answer


Send = Callable[[Sent], Awaitable[None]]


@dataclass
class Load:
    """`rate` requests a second by `send`, which raises or sets `failure` where one fails."""

    rate: float
    send: Send
    sent: list[Sent] = field(default_factory=list)

    async def run(self, during: Awaitable[None]) -> None:
        """Until `during` is done and every request has ended."""
        pending: set[asyncio.Task[None]] = set()
        work = asyncio.ensure_future(during)
        begin = time.monotonic()
        while not work.done():
            await asyncio.sleep(max(0.0, begin + len(self.sent) / self.rate - time.monotonic()))
            sent = Sent(time.monotonic())
            self.sent.append(sent)
            task = asyncio.create_task(self._one(sent))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        await work

    @property
    def failed(self) -> list[Sent]:
        """Those that got no answer, or another than 200."""
        return [sent for sent in self.sent if sent.failure is not None]

    async def _one(self, sent: Sent) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self.send(sent)
        except Exception as error:  # whatever a client may meet
            sent.failure = f"{type(error).__name__}: {error}"
        sent.ended = time.monotonic()


async def predict_once(port: int, sent: Sent) -> None:
    """POST /predict on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent.client_port = writer.get_extra_info("sockname")[1]
        request = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\nconnection: close\r\n"
        writer.write(f"{request}content-type: application/json\r\n\r\n".encode() + BODY)
        reply = await reader.read()
    finally:
        writer.close()
    head, _, _ = reply.partition(b"\r\n\r\n")
    if found := PREDICTION_ID.search(head):
        sent.prediction_id = found[1].decode()
    if not reply.startswith(b"HTTP/1.1 200 ") or found is None:
        sent.failure = repr(reply[:60])
