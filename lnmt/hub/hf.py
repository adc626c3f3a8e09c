"""`hf:OWNER/NAME[@REVISION]`: a snapshot of a repository of the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.errors import DigestMismatch, LnmtError, Transient
from lnmt.files import directory_digest
from lnmt.hub.cache import add_entry, find_entry, key_of, locked
from lnmt.progress import Progress

if TYPE_CHECKING:
    from lnmt.hub.fetch import Kind

# Pickles can run code; the rest are the same weights for other programs.
NOT_WANTED = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.gguf"]
NOT_WANTED += ["onnx/*", "openvino/*", "coreml/*", "*.py"]


def fetch_hf(
    name: str, *, digest: str | None, kind: Kind | None, cache: Path, progress: Progress, offline: bool
) -> Path:
    """The snapshot's files; `digest` is that of the directory."""
    reference = f"hf:{name}"
    repository, _, revision = name.partition("@")
    key = key_of(reference, digest)
    with locked(cache, key, progress):
        files = find_entry(cache, key, repair=not offline, progress=progress)
        if files is not None:
            return files
        if offline:
            raise LnmtError(
                "not in the cache, and LNMT is offline",
                where=cache,
                value=reference,
                fix="unset LNMT_OFFLINE once, or name a local copy: local:PATH",
            )
        partial = cache / "hub" / "downloads" / key
        with progress.bar(f"download {reference}", None, "files") as bar:
            _snapshot(reference, repository, revision or None, partial)
            bar.advance(sum(path.is_file() for path in partial.rglob("*")))
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub's notes for resuming
        found = directory_digest(partial)
        if digest is not None and found != digest:
            shutil.rmtree(partial)
            raise DigestMismatch(
                reference,
                expected=digest,
                found=found,
                fix="pin the revision (hf:OWNER/NAME@COMMIT), or put the found digest into params.yaml",
            )
        if digest is None:
            progress.note(f"{reference} has no digest; found {found}: put it into params.yaml", digest=found)
        files = add_entry(cache, key, reference, found, lambda target: _move(partial, target))
        shutil.rmtree(partial)
        return files


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)


def _snapshot(reference: str, repository: str, revision: str | None, target: Path) -> None:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        snapshot_download(repository, revision=revision, local_dir=target, ignore_patterns=NOT_WANTED)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise LnmtError(
            "the hub has no such repository or revision",
            value=reference,
            allowed="hf:OWNER/NAME[@REVISION]",
            fix="check the name; a private repository needs HF_TOKEN",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, httpx.TransportError) as error:
        raise Transient(
            f"the hub does not answer: {str(error).splitlines()[0]}",
            value=reference,
            fix="check the network (and that HF_HUB_OFFLINE is not set); or name a local copy: local:PATH",
        ) from error
