"""Archives, opened with suspicion: no path and no link may leave the directory, and none may swell without bound."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import sha256_file
from lnmt.hub.cache import add_entry, find_entry, key_of, locked
from lnmt.progress import Progress

# Plain text shrinks to a tenth at most times and a bomb to a thousandth.
MAX_RATIO = 200
ALWAYS_ALLOWED_BYTES = 100 * 2**20
MAX_MEMBERS = 200_000


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    """The stream inside a compressed one, told by its first bytes; `raw` itself where it is not compressed."""
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if head.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(raw))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    return raw


def open_archive(directory: Path, archive: str, *, cache: Path, progress: Progress) -> Path:
    """The unpacked content, kept in `cache`, of the archive at the relative path `archive` in a fetched directory."""
    path = directory / archive
    if not path.resolve().is_relative_to(directory.resolve()):
        raise LnmtError("the archive lies outside its base", where=directory, value=archive, fix="mend the path")
    if not path.is_file():
        import difflib

        known = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
        near = difflib.get_close_matches(archive, known, n=1, cutoff=0.5)
        raise LnmtError(
            "no such archive",
            where=directory,
            value=archive,
            fix=f"did you mean {near[0]!r}?" if near else "mend `archive`; null means that there is none",
        )
    return unpack_once(path, cache, progress)


def unpack_once(archive: Path, cache: Path, progress: Progress, *, digest: str | None = None) -> Path:
    """The content of an archive file, unpacked into `cache` once; `digest` is checked where it is given."""
    found = sha256_file(archive)
    if digest is not None and found != digest:
        raise DigestMismatch(
            archive, expected=digest, found=found, fix="restore the file, or put the found digest into params.yaml"
        )
    key = key_of(archive.name, found)
    with locked(cache, key, progress):
        return find_entry(cache, key, repair=True, progress=progress) or add_entry(
            cache, key, archive.name, found, lambda target: unpack(archive, target)
        )


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip, wheel or tar (plain, gz, bz2, xz) into the existing directory `target`."""
    limit = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * archive.stat().st_size)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, target, limit)
        else:
            _untar(archive, target, limit)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise LnmtError(
            f"the archive cannot be unpacked: {error}",
            where=archive,
            allowed=".zip, .whl, .tar, .tar.gz, .tar.bz2, .tar.xz",
            fix="fetch or build it again",
        ) from error


def _unzip(archive: Path, target: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > limit:
            raise _bomb(archive, limit)
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _refused(archive, member.filename, "it is a link")
            file.extract(member, target)


def _untar(archive: Path, target: Path, limit: int) -> None:
    # As a stream, so that the limit holds for whatever is read, headers too.
    with (
        archive.open("rb") as raw,
        _decompressed(raw) as plain,
        tarfile.open(fileobj=_Limited(plain, limit, archive), mode="r|") as file,
    ):
        for count, member in enumerate(file):
            if count >= MAX_MEMBERS or member.size > limit:
                raise _bomb(archive, limit)
            _check_name(archive, member.name)
            # Links inside a directory have been the way around more than one filter; data needs none.
            if not (member.isfile() or member.isdir()):
                raise _refused(archive, member.name, "it is a link or a device")
            file.extract(member, target, filter="data")


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]:
        raise _refused(archive, name, "its path leaves the directory")


def _refused(archive: Path, name: str, why: str) -> LnmtError:
    return LnmtError(
        f"the archive holds a member that is refused: {why}", where=archive, value=name, fix="do not use this archive"
    )


def _bomb(archive: Path, limit: int) -> LnmtError:
    return LnmtError(
        "the archive swells beyond every measure",
        where=archive,
        allowed=f"{limit} bytes unpacked, {MAX_MEMBERS} members",
        fix="do not use this archive, or unpack it by hand and use local:PATH",
    )


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, stream: IO[bytes], limit: int, archive: Path) -> None:
        self._stream = stream
        self._left = limit
        self._limit = limit
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise _bomb(self._archive, self._limit)
        return data
