from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles.packed import pack_champion
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.serving.source import StoreSource
from lnmt.settings import Settings


def test_without_a_store_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path)
    assert StoreSource(settings, "sentiment", tmp_path).deployment() is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_store_the_packed_champion_is_generation_0(tmp_path: Path, champion: Bundle) -> None:
    pack_champion(champion, tmp_path)
    source = StoreSource(Settings(project=tmp_path), "sentiment", tmp_path)
    assert source.deployment() == Deployment(
        "sentiment", 0, "idle", champion.digest, None, 0.0, 0.0, "packed with the service"
    )
    assert source.bundle(champion.digest).path == tmp_path / "models" / "champion"


def test_a_row_comes_before_what_is_packed(tmp_path: Path, champion: Bundle, challenger: Bundle) -> None:
    settings = Settings(project=tmp_path)
    pack_champion(champion, tmp_path)
    source = StoreSource(settings, "sentiment", tmp_path)
    assert source.deployment() is not None
    released = Deployment("sentiment", 0, "promoted", challenger.digest, None, 0.0, 5.0, "test")
    with DeploymentStore(settings.database_url) as store:
        stored = store.swap(0, released)
    BundleStore(settings.bundles_dir).put(challenger)
    assert source.deployment() == stored
    assert source.bundle(challenger.digest).digest == challenger.digest
    source.close()


def test_a_row_of_another_model_is_not_ours(tmp_path: Path, challenger: Bundle) -> None:
    settings = Settings(project=tmp_path)
    with DeploymentStore(settings.database_url) as store:
        store.swap(0, Deployment("other", 0, "promoted", challenger.digest, None, 0.0, 5.0, "test"))
    source = StoreSource(settings, "sentiment", tmp_path)
    assert source.deployment() is None
    source.close()


def test_a_damaged_bundle_is_refused(tmp_path: Path, champion: Bundle) -> None:
    settings = Settings(project=tmp_path)
    store = BundleStore(settings.bundles_dir)
    store.put(champion)
    (store.path(champion.digest) / "tokenizer.json").write_text("{}")
    with pytest.raises(DigestMismatch):
        StoreSource(settings, "sentiment", tmp_path).bundle(champion.digest)


def test_another_packed_bundle_does_not_stand_in(tmp_path: Path, champion: Bundle, challenger: Bundle) -> None:
    pack_champion(champion, tmp_path)
    source = StoreSource(Settings(project=tmp_path), "sentiment", tmp_path)
    with pytest.raises(LnmtError, match="no such bundle in the store"):
        source.bundle(challenger.digest)


def test_a_packed_champion_that_was_swapped_is_refused(tmp_path: Path, champion: Bundle, challenger: Bundle) -> None:
    packed = pack_champion(champion, tmp_path)
    source = StoreSource(Settings(project=tmp_path), "sentiment", tmp_path)
    assert source.deployment() is not None
    shutil.rmtree(packed)
    pack_champion(challenger, tmp_path)
    with pytest.raises(DigestMismatch):
        source.bundle(champion.digest)
