from __future__ import annotations

import subprocess
from pathlib import Path

from lnmt.bundles.lineage import read_lineage
from lnmt.files import canonical_json, sha256_bytes


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_outside_of_git_there_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("name: x\n")
    lineage = read_lineage(tmp_path, ["ingest"])
    assert (lineage.commit, lineage.dirty, lineage.data) == (None, False, None)
    assert lineage.params == sha256_bytes(b"name: x\n")
    assert lineage.lock == sha256_bytes(canonical_json({"ingest": None}))


def test_commit_and_dirty_flag(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    params = tmp_path / "params.yaml"
    params.write_text("name: x\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    (tmp_path / "untracked").write_text("does not count")
    clean = read_lineage(tmp_path, [])
    assert (clean.commit, clean.dirty) == (git(tmp_path, "rev-parse", "HEAD"), False)
    params.write_text("name: y\n")
    assert read_lineage(tmp_path, []).dirty


def test_of_the_lock_only_upstream_entries_count(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("name: x\n")
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  ingest: {md5: a}\n")
    early = read_lineage(tmp_path, ["ingest"]).lock
    lock.write_text("stages:\n  ingest: {md5: a}\n  train: {md5: b}\n")
    assert read_lineage(tmp_path, ["ingest"]).lock == early
    lock.write_text("stages:\n  ingest: {md5: c}\n  train: {md5: b}\n")
    assert read_lineage(tmp_path, ["ingest"]).lock != early
