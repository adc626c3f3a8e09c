"""The `lnmt` command: errors become messages and exit codes here, nowhere else."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED, USAGE, MISUSED = 130, 143, 1, 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 1 a person can mend it, 2 a gate, 75 try again."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """The exit code of one call."""
    from lnmt.telemetry import quiet

    quiet()
    from lnmt.cli.app import command
    from lnmt.errors import LnmtError

    try:
        command().main(list(arguments), prog_name="lnmt")
    except SystemExit as leave:
        return _leave(leave.code)
    except LnmtError as error:
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(f"error: the disk is full\n  where: {error.filename or 'writing'}\n  fix: free some space and run again")
        return 1
    return 0


def _leave(code: str | int | None) -> int:
    if code == INTERRUPTED:
        _say("interrupted; what was finished before stays, run the same command to go on")
    if code == MISUSED:  # typer's code for a wrong call; here 2 says that a gate blocked
        return USAGE
    return code if isinstance(code, int) else int(code is not None)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """Leave through the `finally` blocks, so that children are stopped."""
    sys.exit(TERMINATED)
