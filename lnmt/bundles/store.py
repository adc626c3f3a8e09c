"""Bundles by digest, in one directory; writing is atomic and idempotent, for any number of processes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lnmt.bundles.bundle import MANIFEST, Bundle
from lnmt.errors import LnmtError, Transient
from lnmt.files import new_directory

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LOCK_TIMEOUT_S = 120.0


class BundleStore:
    """`<directory>/<hex of the digest>/` holds one bundle each; a name that starts with a dot is none yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where the bundle of this digest is, or would be."""
        if not DIGEST.fullmatch(digest):
            raise LnmtError(
                "not a digest", where=self.directory, value=digest, allowed="sha256:<64 hex digits>", fix="lnmt models"
            )
        return self.directory / digest.removeprefix("sha256:")

    def put(self, bundle: Bundle) -> str:
        """Keep a copy; returns the digest. The same bundle is kept once; a damaged copy is replaced.

        The copy is verified before it takes its name, so whatever `digests` tells is whole: killed
        at any moment, this leaves a hidden directory at most, which the next `put` removes.
        Raises DigestMismatch where the source changed meanwhile, Transient where the lock is not free.
        """
        from filelock import FileLock, Timeout

        target = self.path(bundle.digest)
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.directory / ".lock", timeout=LOCK_TIMEOUT_S)
        try:
            with lock:
                self._sweep()
                if not self._is_whole(bundle.digest):
                    with new_directory(target) as directory:
                        _copy(bundle, directory)
                        Bundle.open(directory, expect=bundle.digest)
        except Timeout as error:
            raise Transient(
                "another process keeps the bundle store locked",
                where=lock.lock_file,
                value=f"waited {LOCK_TIMEOUT_S:.0f} s",
                fix="try again; the lock goes with the process that holds it",
            ) from error
        return bundle.digest

    def open(self, digest: str) -> Bundle:
        """The verified bundle of this digest."""
        if not self.path(digest).exists():
            raise LnmtError(
                "no such bundle in the store",
                where=self.directory,
                value=digest,
                allowed=", ".join(self.digests()) or "the store is empty",
                fix="lnmt register keeps the pipeline's bundle",
            )
        return Bundle.open(self.path(digest), expect=digest)

    def digests(self) -> list[str]:
        """Every digest in the store."""
        if not self.directory.exists():
            return []
        names = (f"sha256:{path.name}" for path in self.directory.iterdir())
        return sorted(name for name in names if DIGEST.fullmatch(name))

    def _is_whole(self, digest: str) -> bool:
        if not self.path(digest).exists():
            return False
        try:
            Bundle.open(self.path(digest), expect=digest)
        except LnmtError:
            return False
        return True

    def _sweep(self) -> None:
        """Remove what a killed `put` left; only ever called under the lock, so no other one is writing."""
        for path in self.directory.iterdir():
            if path.name.startswith(".") and path.is_dir():
                shutil.rmtree(path)


def _copy(bundle: Bundle, directory: Path) -> None:
    for name in (*bundle.manifest.files, MANIFEST):
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, place, follow_symlinks=False)
