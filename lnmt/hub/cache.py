"""The cache of unpacked things: `hub/<key>/files/` beside `entry.json`, which holds every file's size and digest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lnmt.errors import DigestMismatch
from lnmt.files import file_digests, new_directory, read_json, sha256_bytes, write_json
from lnmt.progress import Progress


def key_of(reference: str, digest: str | None) -> str:
    """The cache key: the promised digest where there is one, so that one content is kept once."""
    return (digest or sha256_bytes(reference.encode())).removeprefix("sha256:")


@contextmanager
def locked(cache: Path, key: str, progress: Progress) -> Iterator[None]:
    """Hold the key's lock: one process fetches, the others wait and find it done."""
    from filelock import FileLock, Timeout

    folder = cache / "hub"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note("another process is fetching the same thing; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def find_entry(cache: Path, key: str, *, repair: bool, progress: Progress) -> Path | None:
    """The verified files of an entry, None where there is none. A damaged entry goes, or raises unless `repair`."""
    entry = cache / "hub" / key
    record = entry / "entry.json"
    if not record.is_file():
        return None
    try:
        _verify(entry / "files", read_json(record)["files"])
    except (DigestMismatch, KeyError, ValueError, AttributeError) as error:
        if not repair:
            raise DigestMismatch(
                entry, expected="the files of entry.json", found=str(error), fix="go online and run this again"
            ) from error
        progress.note("a cached download was damaged; fetching it again", where=str(entry))
        shutil.rmtree(entry)
        return None
    return entry / "files"


def _verify(files: Path, recorded: dict[str, dict[str, str | int]]) -> None:
    """Sizes first: they cost nothing and catch what was cut off."""
    found = {path.relative_to(files).as_posix(): path for path in files.rglob("*") if path.is_file()}
    for name in sorted(recorded.keys() | found.keys()):
        size = found[name].stat().st_size if name in found else None
        expected = recorded[name]["size"] if name in recorded else None
        if size != expected:
            raise DigestMismatch(files / name, expected=f"{expected} bytes", found=f"{size} bytes", fix="fetch again")
    for name, digest in file_digests(files).items():
        if digest != recorded[name]["digest"]:
            raise DigestMismatch(files / name, expected=str(recorded[name]["digest"]), found=digest, fix="fetch again")


def add_entry(cache: Path, key: str, reference: str, digest: str, fill: Callable[[Path], None]) -> Path:
    """Make an entry whose files `fill` puts into an empty directory; it appears whole or not at all."""
    entry = cache / "hub" / key
    with new_directory(entry) as directory:
        files = directory / "files"
        files.mkdir()
        fill(files)
        write_json(
            directory / "entry.json",
            {
                "reference": reference,
                "digest": digest,
                "files": {
                    name: {"size": (files / name).stat().st_size, "digest": found}
                    for name, found in file_digests(files).items()
                },
            },
        )
    return entry / "files"
