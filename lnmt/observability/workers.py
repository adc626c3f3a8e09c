"""The figures that a service's workers share: files in one directory, which prometheus_client adds up.

It keeps the files of every worker that ever was, and each scrape reads them all: a thousand ended workers
made one take 2.3 s. Here the counters of those that ended are put together in one file, and what was true
of them only while they lived is forgotten.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import multiprocess
from prometheus_client.mmap_dict import MmapedDict

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # set before prometheus_client is imported
ENDED = "ended"  # in place of the process id, in the name of the file for all that ended
LOCK = "lock"


def worker_pids() -> list[int]:
    """The workers that live; where the service has one process, that one."""
    if DIRECTORY not in os.environ:
        return [os.getpid()]
    return [pid for pid, lives in _workers(Path(os.environ[DIRECTORY])) if lives]


@contextmanager
def settled(directory: Path) -> Iterator[None]:
    """Hold the directory still, with those that ended put together; one process at a time.

    Where this process is killed meanwhile, what one ended worker had counted may be missing, and is never told twice.
    """
    with (directory / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for pid, lives in _workers(directory):
            if not lives:
                multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
                for kind in ("counter", "histogram"):
                    _put_together(directory, kind, pid)
        yield


def _workers(directory: Path) -> list[tuple[int, bool]]:
    """Whose files are there, and whether they live."""
    import psutil

    names = {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}
    return [(pid, psutil.pid_exists(pid)) for pid in sorted(int(name) for name in names if name.isdecimal())]


def _put_together(directory: Path, kind: str, pid: int) -> None:
    """Add the file of a worker that ended to that of all that did."""
    own, aside = directory / f"{kind}_{pid}.db", directory / f"{kind}_{pid}.gone"
    ended, new = directory / f"{kind}_{ENDED}.db", directory / f"{kind}_{ENDED}.new"
    if not own.exists():
        return
    own.rename(aside)
    new.unlink(missing_ok=True)  # of one that was killed here
    if ended.exists():
        shutil.copyfile(ended, new)
    total = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value, stamp, _ in MmapedDict.read_all_values_from_file(str(aside)):  # type: ignore[no-untyped-call]
        total.write_value(key, total.read_value(key)[0] + value, stamp)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    new.rename(ended)
    aside.unlink()
