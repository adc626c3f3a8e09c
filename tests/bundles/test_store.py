from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles import store as module
from lnmt.errors import DigestMismatch, LnmtError, Transient
from tests.bundles.conftest import make_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "store")


def test_put_keeps_a_whole_copy_once(store: BundleStore, bundle: Bundle) -> None:
    assert store.digests() == []
    assert store.put(bundle) == bundle.digest
    made = store.path(bundle.digest).stat().st_ino
    assert store.put(bundle) == bundle.digest
    assert store.path(bundle.digest).stat().st_ino == made
    assert store.digests() == [bundle.digest]
    opened = store.open(bundle.digest)
    assert opened.manifest == bundle.manifest
    assert opened.file("parts/tokenizer.json").read_text() == "{}"


def test_a_damaged_copy_is_told_and_the_next_put_mends_it(store: BundleStore, bundle: Bundle) -> None:
    store.put(bundle)
    (store.path(bundle.digest) / "model.bin").write_bytes(b"rot")
    with pytest.raises(DigestMismatch, match=r"model\.bin"):
        store.open(bundle.digest)
    store.put(bundle)
    assert store.open(bundle.digest).digest == bundle.digest


def test_a_source_that_changed_since_it_was_opened_is_not_kept(store: BundleStore, bundle: Bundle) -> None:
    bundle.file("model.bin").write_bytes(b"changed")
    with pytest.raises(DigestMismatch):
        store.put(bundle)
    assert store.digests() == []
    assert [path.name for path in store.directory.iterdir()] == [".lock"]


def test_an_unknown_digest_is_told_with_those_there_are(store: BundleStore, bundle: Bundle) -> None:
    unknown = "sha256:" + "0" * 64
    with pytest.raises(LnmtError, match="the store is empty"):
        store.open(unknown)
    store.put(bundle)
    with pytest.raises(LnmtError, match=f"no such bundle(?s:.*)allowed: {bundle.digest}"):
        store.open(unknown)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc", "../x", "sha256:" + "g" * 64, "a" * 64])
def test_what_is_no_digest_names_no_path(store: BundleStore, digest: str) -> None:
    with pytest.raises(LnmtError, match="not a digest"):
        store.path(digest)


def test_a_locked_store_is_waited_for_then_told(
    store: BundleStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.0)
    store.directory.mkdir()
    with FileLock(store.directory / ".lock"), pytest.raises(Transient, match="keeps the bundle store locked"):
        store.put(bundle)
    assert store.put(bundle) == bundle.digest


PUT = """
import os, signal, sys
from pathlib import Path
import lnmt.files
from lnmt.bundles import Bundle, BundleStore

bundle, store, kill_at = Bundle.open(Path(sys.argv[1])), BundleStore(Path(sys.argv[2])), int(sys.argv[3])
seen = 0

def hook(event, arguments):
    global seen
    if event in ("open", "os.rename", "shutil.copyfile", "os.mkdir") and str(store.directory) in str(arguments):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
store.put(bundle)
print(seen)
"""


def put_elsewhere(bundle: Bundle, store: BundleStore, kill_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PUT, str(bundle.path), str(store.directory), str(kill_at)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


def test_killed_at_any_step_it_leaves_no_visible_half(tmp_path: Path, bundle: Bundle) -> None:
    whole = put_elsewhere(bundle, BundleStore(tmp_path / "whole"), 0)
    steps = int(whole.communicate()[0])
    assert steps > 6
    stores = [BundleStore(tmp_path / f"killed-{step}") for step in range(1, steps + 1)]
    for start in range(0, steps, 4):
        batch = range(start, min(start + 4, steps))
        children = [put_elsewhere(bundle, stores[index], index + 1) for index in batch]
        for child in children:
            child.communicate()
            assert child.returncode == -signal.SIGKILL
    leftovers = 0
    for store in stores:
        assert store.digests() in ([], [bundle.digest])
        for digest in store.digests():
            store.open(digest)
        leftovers += sum(path.is_dir() and path.name.startswith(".") for path in store.directory.glob("*"))
        store.put(bundle)
        assert store.open(bundle.digest).digest == bundle.digest
        assert sorted(path.name for path in store.directory.iterdir()) == [
            ".lock",
            bundle.digest.removeprefix("sha256:"),
        ]
    assert leftovers > 0, "some were killed half-way, and the next put swept that up"


def test_many_processes_put_the_same_bundle_at_once(store: BundleStore, bundle: Bundle, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", b"other weights")
    children = [put_elsewhere(each, store, 0) for each in (bundle, other, bundle, other)]
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert store.digests() == sorted([bundle.digest, other.digest])
    for digest in store.digests():
        store.open(digest)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "lnmt-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, bundle: Bundle, tmp_path: Path) -> None:
    store = BundleStore(small_disk / "store")
    store.put(bundle)
    large = make_bundle(tmp_path / "large", os.urandom(400_000))
    with pytest.raises(OSError, match="No space left"):
        store.put(large)
    assert store.digests() == [bundle.digest]
    assert store.open(bundle.digest).digest == bundle.digest
    with pytest.raises(OSError, match="No space left"):
        make_bundle(small_disk / "new", os.urandom(400_000))
    assert sorted(path.name for path in small_disk.iterdir()) == ["store"]


def test_a_full_disk_leaves_nothing_but_room_to_try_again(
    store: BundleStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import shutil

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            store.put(bundle)
    assert [path.name for path in store.directory.iterdir()] == [".lock"]
    store.put(bundle)
    assert store.digests() == [bundle.digest]
