"""Write and open bundles. Every file is verified by digest before anything parses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lnmt.bundles.contents import unsafe_content
from lnmt.bundles.manifest import FORMAT, Draft, Manifest, check_file_name
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import file_digests, new_directory, read_json, sha256_file, write_json

MANIFEST = "bundle.json"
AGAIN = "delete it and make or fetch it again: dvc checkout, or lnmt run"


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle. `digest` is that of bundle.json, which holds those of all files."""

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: Path, *, expect: str | None = None) -> Bundle:
        """Read and verify the bundle at `path`; with `expect`, only the one of that digest.

        Raises LnmtError where it is no bundle, or holds a link; DigestMismatch where a byte differs.
        """
        source = path / MANIFEST
        if not source.is_file():
            raise LnmtError(
                "not a bundle: it has no bundle.json", where=path, fix="name a directory that `lnmt optimize` wrote"
            )
        _check_entries(path)
        digest = sha256_file(source)
        if expect is not None and digest != expect:
            raise DigestMismatch(source, expected=expect, found=digest, fix=AGAIN)
        manifest = _read_manifest(source)
        found = file_digests(path)
        del found[MANIFEST]
        for name in sorted(found.keys() | manifest.files.keys()):
            wanted = manifest.files.get(name)
            if found.get(name) != wanted:
                raise DigestMismatch(
                    path / name, expected=wanted or "no such file", found=found.get(name, "absent"), fix=AGAIN
                )
        return cls(path, manifest, digest)

    def file(self, name: str) -> Path:
        """The path of one of its files. Raises LnmtError where the bundle has no such file."""
        if name not in self.manifest.files:
            raise LnmtError(
                f"bundle has no file {name!r}",
                where=self.path,
                value=f"engine {self.manifest.engine}",
                allowed=", ".join(self.manifest.files),
                fix="its files do not fit its engine; run the stage that makes it",
            )
        return self.path / name


@contextmanager
def new_bundle(target: Path, draft: Draft) -> Iterator[Path]:
    """Yield a directory to fill; on success it becomes the bundle at `target`, whole or not at all.

    Raises LnmtError where it was filled with nothing, a link, or a file that a bundle may not hold.
    """
    with new_directory(target) as directory:
        yield directory
        _check_entries(directory)
        files = file_digests(directory)
        try:
            manifest = Manifest(**draft.model_dump(), files=files)
        except ValidationError as error:
            raise LnmtError(
                f"this cannot be a bundle: {_first(error)}", where=target, fix="write other files"
            ) from error
        write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


def _read_manifest(source: Path) -> Manifest:
    try:
        raw = read_json(source)
    except ValueError as error:
        raise LnmtError(f"bundle.json is not JSON: {error}", where=source, fix=AGAIN) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise LnmtError(
            "unknown bundle format",
            where=source,
            value=raw.get("format") if isinstance(raw, dict) else type(raw).__name__,
            allowed=FORMAT,
            fix="use the LNMT release that wrote it, or run the pipeline again",
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise LnmtError(f"bundle.json does not fit: {_first(error)}", where=source, fix=AGAIN) from error


def _check_entries(path: Path) -> None:
    """Only plain files and directories: what is read is then what was digested, and it lies inside."""
    for entry in sorted(path.rglob("*")):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise LnmtError(
                "a bundle holds plain files alone, no links and no devices",
                where=entry,
                fix="put the file itself there; with DVC: dvc config cache.type reflink,copy; dvc checkout --relink",
            )
        if entry.is_file():
            name = entry.relative_to(path).as_posix()
            try:
                check_file_name(name)
            except ValueError as error:
                raise LnmtError(
                    str(error), where=path, value=name, fix="save weights as safetensors or ONNX"
                ) from error
            if content := unsafe_content(entry):
                raise LnmtError(
                    "a bundle holds no pickles and no code, under any name",
                    where=entry,
                    value=content,
                    fix="do not use this bundle before you know who made it; save weights as safetensors or ONNX",
                )


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
