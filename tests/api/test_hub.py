from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lnmt import ModelHub
from lnmt.bundles import Bundle, BundleStore
from lnmt.errors import LnmtError
from lnmt.hub.cache import add_entry, key_of
from lnmt.params import load_params
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.settings import Settings


@pytest.fixture
def cached(here: Path) -> str:
    """A reference whose model is in the cache."""
    reference = "hf:owner/name"
    digest = "sha256:" + "a" * 64
    add_entry(here / "cache", key_of(reference, None), reference, digest, lambda to: copy(here / "encoder", to))
    return reference


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def test_what_is_known_is_listed_with_source_and_digest(here: Path, cached: str) -> None:
    shipped = load_params(here / "params.yaml").train
    bundle = Bundle.open(here / "models/mood")
    settings = Settings(project=here)
    BundleStore(settings.bundles_dir).put(bundle)
    with DeploymentStore(settings.database_url) as deployments:
        deployments.swap(0, Deployment("mood", 0, "promoted", bundle.digest, None, 0.0, 0.0, "released"))
    assert ModelHub().list_models() == [
        {"name": shipped.encoder, "source": "shipped", "digest": shipped.digest, "here": False},
        {"name": cached, "source": "cache", "digest": "sha256:" + "a" * 64, "here": True},
        {"name": "mood", "source": "registered", "digest": bundle.digest, "here": True},
        {"name": bundle.digest, "source": "store", "digest": bundle.digest, "here": True},
    ]
    assert ModelHub().info("mood")["digest"] == bundle.digest
    assert ModelHub().download("mood") == BundleStore(settings.bundles_dir).path(bundle.digest)


def test_looking_makes_nothing(here: Path) -> None:
    before = sorted(here.rglob("*"))
    ModelHub().list_models()
    assert sorted(here.rglob("*")) == before


def test_a_model_in_the_cache_is_given_and_told_of(here: Path, cached: str) -> None:
    hub = ModelHub()
    path = hub.download(cached)
    assert (path / "config.json").read_bytes() == (here / "encoder/config.json").read_bytes()
    found = hub.info(cached)
    assert (found["name"], found["path"], found["family"], found["hidden_size"]) == (cached, path, "bert", 32)
    assert hub.download("owner/name") == path  # a bare name means the hub's


def test_a_bundle_is_told_of(here: Path) -> None:
    found = ModelHub().info("models/mood")
    assert (found["task"], found["labels"], found["engine"]) == (
        "text-classification",
        ["negative", "positive"],
        "torch",
    )


def test_offline_what_is_not_here_is_told(here: Path, cached: str) -> None:
    hub = ModelHub()
    with pytest.raises(LnmtError, match="not in the cache, and LNMT is offline"):
        hub.download("bert-large-uncased")
    with pytest.raises(LnmtError, match="not here") as caught:
        hub.info("bert-large-uncased")
    assert (caught.value.value, caught.value.allowed) == ("hf:bert-large-uncased", cached)
