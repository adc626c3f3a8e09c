"""Files that are either whole or absent: written beside their place, synced, renamed; and their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError


def sha256_bytes(data: bytes) -> str:
    """`sha256:<hex>` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha256_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def file_digests(directory: Path) -> dict[str, str]:
    """Relative POSIX path → digest, for every file below `directory`, in order of path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): sha256_file(path) for path in files}


def directory_digest(directory: Path) -> str:
    """One digest for a tree: that of its sorted (path, digest) pairs."""
    return sha256_bytes(canonical_json(file_digests(directory)))


def canonical_json(value: Any) -> bytes:
    """The one JSON spelling of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sync_directory(directory: Path) -> None:
    """Make renames inside `directory` survive a power loss."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; NaN is refused."""
    write_bytes(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """The JSON value of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty sibling of `target`; on success it is synced and takes the target's place, on error it goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                sync_directory(path)
        sync_directory(temporary)
        if target.exists():
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
        sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def clear_disk_errors(where: Path) -> Iterator[None]:
    """Turn "no space left" and its kin, raised while writing below `where`, into an LnmtError."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}:
            raise
        raise LnmtError(
            f"cannot write: {os.strerror(error.errno)}",
            where=where,
            fix="free space on this disk (nothing half-written was left), then run the same command again",
        ) from error
