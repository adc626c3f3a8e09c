"""Bundles by digest, in one directory; writing is atomic and idempotent."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnmt.bundles.bundle import Bundle
from lnmt.errors import LnmtError
from lnmt.files import new_directory


class BundleStore:
    """`<directory>/<hex of the digest>/` holds one bundle each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where the bundle of this digest is, or would be."""
        return self.directory / digest.removeprefix("sha256:")

    def put(self, bundle: Bundle) -> str:
        """Keep a copy; returns the digest. The same bundle is kept once."""
        target = self.path(bundle.digest)
        if not target.exists():
            with new_directory(target) as directory:
                shutil.copytree(bundle.path, directory, dirs_exist_ok=True)
        return bundle.digest

    def open(self, digest: str) -> Bundle:
        """The verified bundle of this digest."""
        if not self.path(digest).exists():
            raise LnmtError("no such bundle in the store", where=self.directory, value=digest, allowed=", ".join(self.digests()) or "the store is empty", fix="lnmt register keeps the pipeline's bundle")
        return Bundle.open(self.path(digest), expect=digest)

    def digests(self) -> list[str]:
        """Every digest in the store."""
        if not self.directory.exists():
            return []
        return sorted(f"sha256:{path.name}" for path in self.directory.iterdir() if not path.name.startswith("."))
