"""One worker: the app on Uvicorn, behind a socket that it inherits. `python -m lnmt.serving.processes.worker`.

The supervisor starts it; nobody else does. Three descriptors come with it: the listening socket, the board, and
the lifeline, a pipe whose other end the supervisor alone holds: its end says that the supervisor is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from lnmt.errors import LnmtError
from lnmt.serving.processes.board import END_S, Board

ORPHAN_S = 10.0  # for the requests of a worker whose supervisor is gone
MARGIN_S = 3.0  # of END_S: for what follows the last reply
FILES = 16_384  # descriptors it may have open, where the system allows: connections, and files beside them


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; 0 after such an end, else the exit code of what was raised."""
    options = _options(arguments)
    for fd in (options.socket, options.board, options.lifeline):
        os.set_inheritable(fd, False)  # what a worker starts must not hold them open
    board = Board(options.board)
    orphaned = watch_lifeline(options.lifeline)
    faulthandler.register(signal.SIGUSR1)  # the supervisor asks a worker that hangs where it is
    _allow_files()
    try:
        _serve(board, options.seat, socket.socket(fileno=options.socket), orphaned)
    except LnmtError as error:
        board.say(options.seat, error.what)
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception as error:
        board.say(options.seat, f"{type(error).__name__}: {error}")
        raise
    return 0


def watch_lifeline(fd: int) -> threading.Event:
    """An event that is set when the supervisor has gone; a while later the process ends, whatever it does.

    A thread of its own: it works also where the event loop hangs.
    """
    orphaned = threading.Event()

    def wait() -> None:
        os.read(fd, 1)  # nothing is ever written: it returns at the end
        orphaned.set()
        time.sleep(ORPHAN_S)
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
    return orphaned


def _serve(board: Board, seat: int, listener: socket.socket, orphaned: threading.Event) -> None:
    gc.disable()  # the attendant ends that: a start makes 340,000 objects that stay; looks at them took 1 s of 5.5
    from lnmt.telemetry import quiet

    quiet()
    import uvloop

    from lnmt.observability.logging import configure, silence, take_over
    from lnmt.security.tls import tls_context
    from lnmt.serving.build import build_app
    from lnmt.serving.lifecycle import Lifecycle
    from lnmt.serving.processes.attendant import Attendant
    from lnmt.serving.processes.bento import late_bento
    from lnmt.serving.processes.http import make_server
    from lnmt.settings import Settings

    configure()
    take_over(["uvicorn.error"])
    silence(["uvicorn.error"])  # what it says of its start and end is the supervisor's to say
    settings = Settings()
    lifecycle = Lifecycle(board)
    app = build_app(settings, settings.project, host=late_bento(), lifecycle=lifecycle)
    tls = tls_context(settings.tls_certificate, settings.tls_key)
    finish_s = max(1, int(END_S - MARGIN_S - settings.drain_s))
    server = make_server(app, lifecycle.begin_leave, finish_s=finish_s, tls=tls)
    attendant = Attendant(server, lifecycle, board, seat, drain_s=settings.drain_s, orphaned=orphaned)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attendant.serve(listener))


def _allow_files() -> None:
    """Raise the soft limit of open files, which is 1,024 on most systems."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("socket", "board", "lifeline", "seat"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
