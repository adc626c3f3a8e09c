from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import sha256_file
from lnmt.models import MODELS, build_model, load_model
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.models.tensors import write_tensors
from tests.tiny_bundle import tiny_bundle, tiny_encoder
from tests.training.training_kit import train_params

IDS = torch.tensor([[2, 40, 41, 3], [2, 50, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture
def copy(encoder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(encoder, tmp_path / "encoder")


def test_a_fresh_model_is_the_encoder_and_a_small_head(encoder: Path) -> None:
    model = build_model(train_params(), 3, encoder)
    stored = load_file(encoder / "model.safetensors")
    state = model.state_dict()
    assert {name.removeprefix("encoder.") for name in state} == {*stored, "head.weight", "head.bias"}
    assert all(torch.equal(state[f"encoder.{name}"], tensor) for name, tensor in stored.items())
    assert state["head.weight"].shape == (3, 32)
    assert 0.01 < float(state["head.weight"].std()) < 0.03
    assert (model.training, model.classes) == (True, 3)


def test_it_is_drawn_from_the_seed_alone(encoder: Path) -> None:
    generator = torch.get_rng_state()
    heads = [build_model(train_params(seed=seed), 3, encoder).get_parameter("head.weight") for seed in (7, 7, 8)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(torch.get_rng_state(), generator)


def test_padding_changes_nothing(encoder: Path) -> None:
    model = build_model(train_params(), 3, encoder).eval()
    with torch.no_grad():
        logits, pooled = model(IDS, MASK)
        alone, _ = model(IDS[1:, :3], MASK[1:, :3])
    assert (logits.shape, pooled.shape) == ((2, 3), (2, 32))
    torch.testing.assert_close(logits[1:], alone, rtol=1e-5, atol=1e-6)


def test_the_step_is_the_mean_cross_entropy(encoder: Path) -> None:
    model = build_model(train_params(), 3, encoder).eval()
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        logits, _ = model(IDS, MASK)
        loss = model.training_step(TrainingBatch(IDS, MASK, labels))
    shares = logits.log_softmax(dim=1)
    assert float(loss) == pytest.approx(-float(shares[0, 2] + shares[1, 0]) / 2, rel=1e-5)


def test_a_checkpoint_with_the_encoder_inside_is_read(copy: Path, encoder: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    inside = {f"bert.{name}": tensor.to(torch.float16) for name, tensor in stored.items()}
    save_file(inside | {"cls.bias": torch.zeros(3)}, copy / "model.safetensors")
    found = build_model(train_params(), 3, copy).state_dict()
    expected = build_model(train_params(), 3, encoder).state_dict()
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_bundle_gives_the_model_back(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    model = load_model(bundle)
    model.save(tmp_path / "again.safetensors")
    assert sha256_file(tmp_path / "again.safetensors") == sha256_file(bundle.file("model.safetensors"))
    assert not model.training


def test_a_bundle_whose_labels_are_not_the_models_is_refused(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "bundle").path / "bundle.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "labels": ["a", "b"]}))
    with pytest.raises(LnmtError, match="the model's classes are not the bundle's labels") as caught:
        load_model(Bundle.open(path.parent))
    assert (caught.value.value, caught.value.allowed) == ("3 classes", "2 labels")


def cut_weights(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def lose_tensor(path: Path) -> None:
    stored = load_file(path)
    stored.pop("embeddings.LayerNorm.bias")
    save_file(stored, path)


def widen_tensor(path: Path) -> None:
    save_file(load_file(path) | {"embeddings.LayerNorm.bias": torch.zeros(33)}, path)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Path.unlink, "the encoder has no model.safetensors"),
        (cut_weights, "model.safetensors cannot be read"),
        (lose_tensor, "the encoder's weights lack 1 of"),
        (widen_tensor, "the encoder's weights do not fit its config.json"),
    ],
)
def test_unusable_weights_are_told(copy: Path, damage: Callable[[Path], None], what: str) -> None:
    damage(copy / "model.safetensors")
    with pytest.raises(LnmtError, match=what) as caught:
        build_model(train_params(), 3, copy)
    assert caught.value.where == copy / "model.safetensors"


@pytest.mark.parametrize(("text", "what"), [("{", "config.json is not JSON"), ("[]", "config.json is not an object")])
def test_an_unusable_config_is_told(copy: Path, text: str, what: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(LnmtError, match=what):
        build_model(train_params(), 3, copy)


def test_an_encoder_of_another_family_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "berd"}))
    with pytest.raises(UnknownName, match="unknown encoder family 'berd'") as caught:
        build_model(train_params(), 3, copy)
    assert caught.value.fix == "did you mean 'bert'?"


def test_a_plugin_without_its_methods_is_told_what_to_define(encoder: Path) -> None:
    class Bare(BaseModel):
        pass

    with pytest.raises(LnmtError, match="has no `from_encoder`"):
        Bare.from_encoder(train_params(), 3, encoder)
    with pytest.raises(LnmtError, match="a model needs a forward method"):
        Bare({"classes": 2})(IDS, MASK)
    with pytest.raises(LnmtError, match="must tell its number of labels"):
        Bare({})


def test_a_registered_model_is_built_by_its_name(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))

    @MODELS.register("bigger_head")
    class BiggerHead(MODELS.get("encoder_classifier")):  # type: ignore[misc]
        pass

    assert type(build_model(train_params(model="bigger_head"), 2, encoder)) is BiggerHead


def test_a_path_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        write_tensors(tmp_path / "none" / "x.safetensors", {"a": torch.zeros(1)})
