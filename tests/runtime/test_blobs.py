from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnmt.bundles import Bundle
from lnmt.runtime import blobs as module
from lnmt.runtime.blobs import TRAILER, BlobCache
from lnmt.runtime.openvino import OpenVinoEngine
from lnmt.types import Batch, Precision

Bundles = dict[tuple[str, Precision], Bundle]
KEY = {"bundle": "a", "settings": {"streams": 1}}
BLOB = bytes(range(256)) * 64


def text_of(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(record.getMessage() for record in caplog.records)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    assert cache.read(KEY) is None
    cache.write(KEY, BLOB)
    found = cache.read(KEY)
    assert found is not None
    assert found.tobytes() == BLOB
    assert cache.read({**KEY, "bundle": "b"}) is None
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [cache.path(KEY).name]


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [flip(0), flip(5000), flip(-1 - TRAILER), flip(-2), lambda data: data[:-1], lambda data: data[:10], lambda _: b""],
)
def test_what_was_changed_is_not_given_on(
    tmp_path: Path, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    cache = BlobCache(tmp_path)
    cache.write(KEY, BLOB)
    path = cache.path(KEY)
    path.write_bytes(spoil(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.read(KEY) is None
    assert "is made again" in text_of(caplog)
    assert not path.exists()


def test_a_blob_of_another_key_is_not_given_on(tmp_path: Path) -> None:
    cache, other = BlobCache(tmp_path), {**KEY, "bundle": "b"}
    cache.write(other, BLOB)
    cache.path(other).rename(cache.path(KEY))
    assert cache.read(KEY) is None


def test_a_full_disk_costs_the_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    cache = BlobCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        cache.write(KEY, BLOB)
    assert "cannot be written" in text_of(caplog)
    assert cache.read(KEY) is None


def test_a_cache_that_is_no_directory_costs_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = BlobCache(tmp_path / "file" / "cache")
    cache.write(KEY, BLOB)
    assert cache.read(KEY) is None


def test_a_reader_sees_a_whole_blob_whoever_writes(tmp_path: Path) -> None:
    cache, stop = BlobCache(tmp_path), threading.Event()

    def write() -> None:
        while not stop.is_set():
            cache.write(KEY, BLOB)

    cache.write(KEY, BLOB)
    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(50):
            found = cache.read(KEY)
            assert found is not None
            assert found.tobytes() == BLOB
    finally:
        stop.set()
        for writer in writers:
            writer.join()


# OpenVINO's own blobs

BATCH = Batch(np.arange(1, 17, dtype=np.int64).reshape(2, 8), np.ones((2, 8), dtype=np.int64))


def ask(bundle: Bundle, cache: Path) -> bytes:
    engine = OpenVinoEngine()
    engine.load(bundle, threads=1, cache=cache)
    found = engine.infer(BATCH).logits.tobytes()
    engine.close()
    return found


def entries(bundle: Bundle, cache: Path) -> list[Path]:
    return sorted((cache / "openvino" / bundle.digest.removeprefix("sha256:")[:16]).glob("*.blob"))


def test_openvino_reads_what_it_compiled(bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles["openvino", "bf16"]
    first = ask(bundle, tmp_path)
    [blob] = entries(bundle, tmp_path)

    import openvino

    real = openvino.Core

    class Imports:
        """OpenVINO, unable to compile."""

        def __init__(self) -> None:
            self.import_model = real().import_model

    monkeypatch.setattr(openvino, "Core", Imports)
    assert ask(bundle, tmp_path) == first
    assert entries(bundle, tmp_path) == [blob]


@pytest.mark.parametrize("kind", ["flipped", "truncated", "empty", "junk that is signed", "of another model"])
def test_openvino_compiles_again_what_is_not_its_blob(bundles: Bundles, tmp_path: Path, kind: str) -> None:
    bundle = bundles["openvino", "fp32"]
    first = ask(bundle, tmp_path)
    [path] = entries(bundle, tmp_path)
    good = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(flip(len(good) // 2)(good))
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "junk that is signed":
        sign(bundle, tmp_path, path, b"junk" * 1000)
    else:
        other = bundles["openvino", "bf16"]
        ask(other, tmp_path)
        path.write_bytes(entries(other, tmp_path)[0].read_bytes())
    spoilt = path.read_bytes()
    assert ask(bundle, tmp_path) == first
    assert entries(bundle, tmp_path) == [path]
    made = path.read_bytes()
    assert made != spoilt
    assert ask(bundle, tmp_path) == first
    assert path.read_bytes() == made


def sign(bundle: Bundle, cache: Path, path: Path, junk: bytes) -> None:
    """A file that the cache trusts and OpenVINO cannot read: another release's, say."""
    written = BlobCache(path.parent)
    keys: list[dict[str, object]] = []
    real = BlobCache.path

    def spy(self: BlobCache, key: dict[str, object]) -> Path:
        keys.append(key)
        return real(self, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlobCache, "path", spy)
        ask(bundle, cache)
    written.write(keys[0], junk)


def test_every_setting_that_changes_the_blob_has_its_own(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles["openvino", "fp32"]
    for threads in (1, 2):
        engine = OpenVinoEngine()
        engine.load(bundle, threads=threads, cache=tmp_path)
        engine.close()
    assert len(entries(bundle, tmp_path)) == 2
