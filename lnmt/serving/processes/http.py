"""Uvicorn as a worker runs it: uvloop's sockets, httptools' parser, and a bound on what a connection keeps waiting."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lnmt.serving.deadline import tell_gone
from lnmt.serving.processes.sockets import BACKLOG

# Longer than load balancers keep idle connections (60 s is usual): the side that sends next should be the one that
# closes, else a request meets a connection that is just going.
KEEP_ALIVE_S = 75
READ_S = 30.0  # from a request's first byte, or the connection's start, to the request's last byte
HEADER_BYTES = 65_536
MOST_CONNECTIONS = 4096  # of one worker
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """One connection. Uvicorn bounds only how long it idles between requests; here also how long one may arrive.

    Who answers a request can learn when its connection has ended.
    """

    reading_since: float | None = None  # loop time; None between requests and while one is answered
    _in_headers = False
    _header_bytes = 0
    _gone: asyncio.Future[None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in Uvicorn
        super().connection_made(transport)
        self._gone = self.loop.create_future()
        self.reading_since = self.loop.time()
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.reading_since is None:
            self.reading_since = self.loop.time()  # also for bytes that begin no request
        super().data_received(data)
        if self._in_headers:  # the parser keeps them all until they are complete
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self.reading_since = self.loop.time()
        self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()
        tell_gone(cast("dict[str, Any]", self.scope), self._gone)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.reading_since = None
        super().on_message_complete()


class Server(uvicorn.Server):
    """Uvicorn, but a signal asks the worker to leave instead of ending the server at once."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._leave()

    async def start_accepting(self, listener: socket.socket) -> None:
        """Take connections of the inherited socket, as Uvicorn does where it is given one from the start."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            return Protocol(config, self.server_state, self.lifespan.state, loop)

        self.servers.append(await loop.create_server(protocol, sock=listener, ssl=config.ssl, backlog=config.backlog))

    def stop_accepting(self) -> None:
        """Close this process's copy of the listening socket; connections stay."""
        for server in self.servers:
            server.close()

    def close_stalled(self, now: float) -> int:
        """End connections whose request has been arriving for more than READ_S; how many they were."""
        connections = cast("Iterable[Protocol]", self.server_state.connections)
        stalled = [one for one in connections if one.reading_since is not None and now - one.reading_since > READ_S]
        for connection in stalled:
            connection.transport.abort()  # what the client does not read is not waited for either
        return len(stalled)


def make_server(app: ASGIApp, leave: Callable[[], None], *, finish_s: int, tls: ssl.SSLContext | None) -> Server:
    """The server of one worker. `finish_s`: how long replies may still take once it ends.

    Forwarded headers are not believed, whoever sends them; there is no access log, for its lines carry queries.
    """
    config = uvicorn.Config(
        cast("uvicorn._types.ASGIApplication", app),
        http=Protocol,
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=finish_s,
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    return Server(config, leave)
