"""`local:` references, unknown schemes, and where the encoder lies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.files import directory_digest, sha256_file
from lnmt.hub import find_model
from tests.hub.conftest import Hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "models" / "mine"
    directory.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (directory / name).write_text(name)
    return directory


def test_a_directory_stays_where_it_is(hub: Hub, model: Path) -> None:
    assert hub.fetch("local:models/mine", directory_digest(model), offline=True) == model
    assert hub.fetch(f"local:{model}") == model


def test_a_directory_with_another_digest(hub: Hub, model: Path) -> None:
    promised = directory_digest(model)
    (model / "config.json").write_text("changed")
    with pytest.raises(DigestMismatch) as caught:
        hub.fetch("local:models/mine", promised)
    assert (caught.value.where, caught.value.allowed) == (model, promised)
    assert caught.value.value == directory_digest(model)


def test_an_archive_is_unpacked_into_the_cache(hub: Hub, model: Path) -> None:
    archive = hub.root / "model.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in model.iterdir():
            file.write(path, f"inner/{path.name}")
    directory = hub.fetch("local:model.zip", sha256_file(archive))
    assert directory.is_relative_to(hub.cache)
    assert find_model(directory) == directory / "inner"
    with pytest.raises(DigestMismatch):
        hub.fetch("local:model.zip", "sha256:" + "0" * 64)


def test_nothing_there(hub: Hub) -> None:
    with pytest.raises(LnmtError, match="no such directory or archive") as caught:
        hub.fetch("local:nowhere")
    assert caught.value.where == f"local:{hub.root / 'nowhere'}"


def test_an_unknown_scheme(hub: Hub) -> None:
    with pytest.raises(UnknownName) as caught:
        hub.fetch("pipy:tiny==1.0")
    assert (caught.value.allowed, caught.value.fix) == ("hf, local, pypi", "did you mean 'pypi'?")


@pytest.mark.parametrize("reference", ["tiny==1.0", "pypi:", ""])
def test_no_reference(hub: Hub, reference: str) -> None:
    with pytest.raises(LnmtError, match="not a hub reference"):
        hub.fetch(reference)


@pytest.mark.parametrize("digest", ["0" * 64, "sha256:0", "md5:" + "0" * 64, "sha256:" + "G" * 64])
def test_no_digest(hub: Hub, digest: str) -> None:
    with pytest.raises(LnmtError, match="not a digest"):
        hub.fetch("local:models", digest)


def test_the_shallowest_encoder_is_taken(tmp_path: Path, model: Path) -> None:
    deeper = model / "onnx"
    deeper.mkdir()
    for path in list(model.glob("*.*")):
        (deeper / path.name).write_text("")
    assert find_model(tmp_path) == model
    assert find_model(model) == model


def test_no_encoder(tmp_path: Path, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(LnmtError, match="no encoder here") as caught:
        find_model(tmp_path)
    assert caught.value.value == "models/mine/config.json, models/mine/model.safetensors"


def test_two_encoders(tmp_path: Path, model: Path) -> None:
    other = model.with_name("other")
    other.mkdir()
    for path in model.iterdir():
        (other / path.name).write_text("")
    with pytest.raises(LnmtError, match="more than one encoder here") as caught:
        find_model(tmp_path)
    assert caught.value.value == "models/mine, models/other"
