from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import sha256_file
from lnmt.models import MODELS, WEIGHTS, build_model, load_model
from lnmt.models.base import BaseModel, Inputs, ModelSetup, TrainingBatch
from lnmt.models.classifier import EncoderClassifier
from lnmt.models.tensors import write_tensors
from lnmt.params import Plugin
from tests.models.model_kit import inputs_of
from tests.tiny_bundle import LINEAGE, PIECES, tiny_bundle, tiny_setup

CLASSIFIER = Plugin(name="encoder_classifier")
INPUTS = inputs_of([2, 40, 41, 3], [2, 50, 3])


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))


def rewrite(bundle: Bundle, **changes: Any) -> Bundle:
    """The same bundle with another bundle.json."""
    path = bundle.path / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return Bundle.open(bundle.path)


def test_a_fresh_model_is_the_encoder_and_a_small_head(encoder: Path) -> None:
    model = build_model(CLASSIFIER, tiny_setup(encoder))
    stored = load_file(encoder / "model.safetensors")
    state = model.state_dict()
    assert {name.removeprefix("encoder.") for name in state} == {*stored, "head.weight", "head.bias"}
    assert all(torch.equal(state[f"encoder.{name}"], tensor) for name, tensor in stored.items())
    assert state["head.weight"].shape == (3, 32)
    assert 0.01 < float(state["head.weight"].std()) < 0.03
    assert (model.training, model.labels) == (True, 3)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_it_is_drawn_from_the_seed_alone(encoder: Path) -> None:
    generator = torch.get_rng_state()
    heads = [build_model(CLASSIFIER, tiny_setup(encoder, seed=seed)).get_parameter("head.weight") for seed in (7, 7, 8)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_model_that_does_not_learn_the_task_names_those_that_do(encoder: Path) -> None:
    with pytest.raises(LnmtError, match="'encoder_classifier' does not learn token-classification") as caught:
        build_model(CLASSIFIER, tiny_setup(encoder, "token-classification"))
    assert caught.value.allowed == "a model for this task: token_classifier"
    assert caught.value.where == "params.yaml: train.model"


def test_an_unknown_model_or_option_offers_the_near_one(encoder: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        build_model(Plugin(name="encoder_clasifier"), tiny_setup(encoder))
    assert caught.value.fix == "did you mean 'encoder_classifier'?"
    with pytest.raises(UnknownName) as caught:
        build_model(CLASSIFIER, tiny_setup(encoder, options={"dropuot": 0.2}))
    assert caught.value.fix == "did you mean 'dropout'?"


@pytest.mark.parametrize("share", [1.0, -0.1, "a lot", None, True])
def test_a_dropout_that_is_no_share_is_refused(encoder: Path, share: object) -> None:
    with pytest.raises(LnmtError, match="dropout is no share") as caught:
        build_model(CLASSIFIER, tiny_setup(encoder, options={"dropout": share}))
    assert caught.value.where == "params.yaml: train.model.dropout"


def test_a_bundle_gives_the_model_back(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    model = load_model(bundle)
    model.save(tmp_path / "again.safetensors")
    assert sha256_file(tmp_path / "again.safetensors") == sha256_file(bundle.file(WEIGHTS))
    assert (type(model), model.training, model.task) == (EncoderClassifier, False, "text-classification")


@pytest.mark.parametrize("changes", [{"labels": ["a", "b"]}, {"task": "multi-label-classification"}])
def test_a_bundle_whose_task_or_labels_are_not_the_models_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = rewrite(tiny_bundle(tmp_path / "bundle"), **changes)
    with pytest.raises(LnmtError, match="the model's task and labels are not the bundle's") as caught:
        load_model(bundle)
    assert caught.value.value == "text-classification, 3 labels"


def test_a_bundle_of_an_older_form_is_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    old = {name: value for name, value in bundle.manifest.model.items() if name not in ("task", "labels")}
    with pytest.raises(LnmtError, match="written before models told their task and labels") as caught:
        load_model(rewrite(bundle, model={**old, "classes": 3}))
    assert caught.value.fix == "make the bundle again: lnmt run"


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    path = bundle.file(WEIGHTS)
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "head.bias"}, path)
    with pytest.raises(LnmtError, match="the weights do not fit the model") as caught:
        load_model(bundle)
    assert caught.value.where == path


def test_a_plugin_written_as_the_specification_has_it_is_built_learns_and_comes_back(
    tmp_path: Path, table: None
) -> None:
    @MODELS.register("my-custom-transformer")
    class CustomTransformer(BaseModel):
        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(config)
            self.words = nn.Embedding(config["vocabulary"], config["width"], padding_idx=config["pad_id"])
            self.block = nn.TransformerEncoderLayer(config["width"], 2, 32, dropout=0.0, batch_first=True)
            self.head = nn.Linear(config["width"], config["labels"])

        def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
            padding = inputs["attention_mask"] == 0
            states = self.block(self.words(inputs["input_ids"]), src_key_padding_mask=padding)
            pooled = states[:, 0]
            return self.head(pooled), pooled

        def training_step(self, batch: TrainingBatch) -> Tensor:
            logits, _ = self(batch.inputs)
            return nn.functional.cross_entropy(logits, batch.labels)

    plugin = Plugin.model_validate({"name": "my-custom-transformer", "width": 16})
    setup = tiny_setup(None, options=plugin.options)
    model = build_model(plugin, setup)
    assert model.config == {
        "task": "text-classification",
        "labels": 3,
        "vocabulary": len(PIECES),
        "max_tokens": 20,
        "pad_id": 0,
        "width": 16,
    }
    batch = TrainingBatch(INPUTS["input_ids"], INPUTS["attention_mask"], torch.tensor([2, 0]), ("a", "b"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        loss = model.training_step(batch)
        losses.append(float(loss.detach()))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] / 2

    draft = Draft(
        task="text-classification",
        labels=["a", "b", "c"],
        model=model.describe(plugin.name),
        engine="torch",
        precision="fp32",
        max_tokens=20,
        pad_multiple=8,
        temperature=1.0,
        processors=[],
        parent=None,
        lineage=LINEAGE,
        evidence={},
    )
    with new_bundle(tmp_path / "bundle", draft) as directory:
        model.save(directory / WEIGHTS)
    again = load_model(Bundle.open(tmp_path / "bundle"))
    with torch.no_grad():
        assert torch.equal(again(INPUTS)[0], model.eval()(INPUTS)[0])


def test_a_plugin_that_raises_is_named(table: None) -> None:
    @MODELS.register("broken")
    class Broken(BaseModel):
        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(config)
            self.words = nn.Embedding(config["vocabulary"], config["width"])

    with pytest.raises(LnmtError, match="model 'broken' cannot be built: KeyError: 'width'") as caught:
        build_model(Plugin(name="broken"), tiny_setup(None))
    assert str(caught.value.where).endswith("Broken")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_configuration_that_is_no_json_is_refused(table: None) -> None:
    @MODELS.register("pathful")
    class Pathful(BaseModel):
        @classmethod
        def configure(cls, setup: ModelSetup) -> dict[str, Any]:
            return {**super().configure(setup), "sizes": (1, 2)}

    with pytest.raises(LnmtError, match="a model's configuration must be JSON"):
        build_model(Plugin(name="pathful"), tiny_setup(None))


def test_what_is_no_model_cannot_be_one(table: None) -> None:
    MODELS.register("function")(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(LnmtError, match="model 'function' is no subclass of BaseModel"):
        build_model(Plugin(name="function"), tiny_setup(None))


def test_a_path_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        write_tensors(tmp_path / "none" / "x.safetensors", {"a": torch.zeros(1)})
