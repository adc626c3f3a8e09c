"""A real HTTP/1.1 server that keeps connections open, counts them, and may hang up; a test gives what it answers."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any  # of its JSON
    connection: int  # the first is 1
    turn: int  # on its connection; the first is 1


@dataclass(frozen=True)
class Reply:
    body: Any = None  # sent as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Running:
    url: str
    connections: int = 0


Respond = Callable[[Received], Reply | None]  # None: hang up without a word


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


@contextmanager
def keep_alive_server(respond: Respond) -> Iterator[Running]:
    """Yield its address and what it counts."""
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection_number = running.connections = next(numbers)
            self.turn = 0

        def do_POST(self) -> None:
            self.turn += 1
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(content) if content else None
            reply = respond(Received(self.command, self.path, headers, body, self.connection_number, self.turn))
            if reply is None:
                self.close_connection = True
                return
            sent = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(sent)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    running = Running(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
