"""Write and open bundles. Every file is verified by digest before anything parses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lnmt.bundles.manifest import FORMAT, Draft, Manifest
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import file_digests, new_directory, read_json, sha256_file, write_json

MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle. `digest` is that of bundle.json, which holds those of all files."""

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: Path, *, expect: str | None = None) -> Bundle:
        """Read and verify the bundle at `path`; with `expect`, only the one of that digest.

        Raises LnmtError where it is no bundle, DigestMismatch where a byte differs.
        """
        source = path / MANIFEST
        if not source.is_file():
            raise LnmtError("not a bundle: it has no bundle.json", where=path, fix="name a directory that `lnmt optimize` wrote")
        digest = sha256_file(source)
        fix = "delete it and make or fetch it again: dvc checkout, or lnmt run"
        if expect is not None and digest != expect:
            raise DigestMismatch(source, expected=expect, found=digest, fix=fix)
        raw = read_json(source)
        if raw.get("format") != FORMAT:
            raise LnmtError("unknown bundle format", where=source, value=raw.get("format"), allowed=FORMAT, fix="use the LNMT release that wrote it, or run the pipeline again")
        try:
            manifest = Manifest.model_validate(raw)
        except ValidationError as error:
            raise LnmtError(f"bundle.json does not fit: {error}", where=source, fix=fix) from error
        _verify(path, manifest, fix)
        return cls(path, manifest, digest)

    def file(self, name: str) -> Path:
        """The path of one of its files."""
        if name not in self.manifest.files:
            raise LnmtError(f"bundle has no file {name!r}", where=self.path, allowed=", ".join(self.manifest.files), fix="run the stage that makes it")
        return self.path / name


def _verify(path: Path, manifest: Manifest, fix: str) -> None:
    for entry in path.rglob("*"):
        if entry.is_symlink() and not entry.resolve().is_relative_to(path.resolve()):
            raise LnmtError("bundle holds a link that leaves it", where=entry, fix=fix)
    found = file_digests(path)
    found.pop(MANIFEST)
    for name in sorted(found.keys() | manifest.files.keys()):
        if found.get(name) != manifest.files.get(name):
            raise DigestMismatch(path / name, expected=manifest.files.get(name, "no such file"), found=found.get(name, "absent"), fix=fix)


@contextmanager
def new_bundle(target: Path, draft: Draft) -> Iterator[Path]:
    """Yield a directory to fill; on success it becomes the bundle at `target`, whole or not at all."""
    with new_directory(target) as directory:
        yield directory
        manifest = Manifest(**draft.model_dump(), files=file_digests(directory))
        write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


