"""Where a stage's outputs come from: commit, dirty flag, digests of params.yaml and of the lock's upstream part."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from lnmt.bundles.manifest import Lineage
from lnmt.files import canonical_json, sha256_bytes, sha256_file


def read_lineage(root: Path, upstream: Sequence[str]) -> Lineage:
    """The lineage of what a stage makes now in the project at `root`.

    Of dvc.lock only the entries of the `upstream` stages count, so that both drivers, and a second
    run, give the same digest however far the lock has been written.
    """
    commit, dirty = read_commit(root)
    lock = root / "dvc.lock"
    entries = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.exists() else {}
    return Lineage(
        commit=commit,
        dirty=dirty,
        params=sha256_file(root / "params.yaml"),
        lock=sha256_bytes(canonical_json({name: entries.get(name) for name in upstream})),
    )


def read_commit(root: Path) -> tuple[str | None, bool]:
    """The commit that is checked out around `root`, None outside of a checkout; and whether tracked files differ."""
    commit = _git(root, "rev-parse", "HEAD")
    return commit or None, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command; empty outside a checkout or without git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
