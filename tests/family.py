"""A process and all that it started, ended by force: any of them may end by itself meanwhile."""

from __future__ import annotations

from contextlib import suppress

import psutil


def kill_family(pid: int) -> None:
    """SIGKILL to the process, so that it starts no others, then to its descendants; nothing where it is gone."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
