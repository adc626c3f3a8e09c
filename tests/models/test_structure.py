from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import build_model, load_model
from lnmt.models.base import BaseModel
from lnmt.models.structure import STRUCTURE, TrimmedEmbedding, add_operation, restructure
from lnmt.params import Plugin
from lnmt.types import Batch
from tests.models.model_kit import inputs_of
from tests.optimization.weights_kit import as_bundle, exported_logits, logits
from tests.tiny_bundle import tiny_bundle, tiny_setup

LAYER = "encoder.encoder.layer"
WORDS = "encoder.embeddings.word_embeddings"
SMALLER: list[dict[str, Any]] = [
    {"kind": "heads", "module": f"{LAYER}.0.attention.self", "heads": 1},
    {"kind": "linear", "module": f"{LAYER}.1.intermediate.dense", "inputs": 32, "outputs": 24},
    {"kind": "linear", "module": f"{LAYER}.1.output.dense", "inputs": 24, "outputs": 32},
    {"kind": "low_rank", "module": f"{LAYER}.0.intermediate.dense", "rank": 5},
    {"kind": "low_rank_blocks", "module": f"{LAYER}.0.output.dense", "ranks": [[3, None], [2, 4]]},
    {"kind": "vocabulary", "module": WORDS, "rows": 40, "fallback": 1},
    {"kind": "drop", "module": LAYER, "keep": [1]},
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("structure") / "bundle")


def changed(bundle: Bundle, *operations: dict[str, Any]) -> BaseModel:
    """The bundle's model after `operations`, with numbers drawn for all of it."""
    model = load_model(bundle)
    for operation in operations:
        add_operation(model, operation)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    for module in model.modules():
        if isinstance(module, TrimmedEmbedding):
            torch.randint(0, len(module.rows.weight), module.index.shape, out=module.index)
    return model


def shapes(model: BaseModel) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "operations", [SMALLER[:1], SMALLER[1:3], SMALLER[3:4], SMALLER[4:5], SMALLER[5:6], SMALLER[6:], SMALLER]
)
def test_a_bundle_and_onnx_runtime_give_the_same_numbers(
    bundle: Bundle, operations: list[dict[str, Any]], tmp_path: Path
) -> None:
    model = changed(bundle, *operations)
    written = as_bundle(model, bundle, tmp_path / "bundle")
    again = load_model(written)
    assert shapes(again) == shapes(model)
    assert written.manifest.model[STRUCTURE] == operations
    inputs = inputs_of([2, 40, 41, 42, 3], [2, 50, 3])
    batch = Batch(inputs["input_ids"].numpy(), inputs["attention_mask"].numpy())
    expected = logits(model, [batch])
    np.testing.assert_array_equal(logits(again, [batch]), expected)
    np.testing.assert_allclose(exported_logits(written, tmp_path / "onnx", [batch]), expected, rtol=1e-3, atol=1e-4)


def test_what_an_operation_leaves_alone_keeps_its_weights(bundle: Bundle) -> None:
    model, before = load_model(bundle), load_model(bundle).state_dict()
    add_operation(model, {"kind": "drop", "module": LAYER, "keep": [1]})
    add_operation(model, {"kind": "heads", "module": f"{LAYER}.0.attention.self", "heads": 1})
    after = model.state_dict()
    same = "intermediate.dense.weight", "attention.output.LayerNorm.weight"
    assert all(torch.equal(after[f"{LAYER}.0.{name}"], before[f"{LAYER}.1.{name}"]) for name in same)
    assert after[f"{LAYER}.0.attention.self.query.weight"].shape == (16, 32)
    assert after[f"{LAYER}.0.attention.output.dense.weight"].shape == (32, 16)
    assert not any(name.startswith(f"{LAYER}.1.") for name in after)


def test_training_packs_a_changed_model_as_an_unchanged_one(bundle: Bundle) -> None:
    model = changed(bundle, SMALLER[0])
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            setattr(module, "dropout", 0.0)  # noqa: B010 (modules' attributes are tensors and modules to mypy)
    inputs, encoder = inputs_of([2, 40, 41, 42, 3], [2, 50, 3]), model.get_submodule("encoder")
    expected = encoder.eval()(**inputs)
    found = encoder.train()(**inputs)
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-5)


def test_tokens_without_a_row_have_the_fallback() -> None:
    trimmed = TrimmedEmbedding(nn.Embedding(10, 4), rows=3, fallback=1)
    trimmed.index[7] = 2
    torch.nn.init.normal_(trimmed.rows.weight)
    found = trimmed(torch.tensor([[0, 7], [9, 7]]))
    assert torch.equal(found, trimmed.rows.weight[torch.tensor([[1, 2], [1, 2]])])


def test_gpt2_with_fewer_heads_generates_as_it_reads(gpt2: Path) -> None:
    model = build_model(Plugin(name="causal_lm"), tiny_setup(gpt2, "text-generation")).eval()
    add_operation(model, {"kind": "heads", "module": "transformer.h.1.attn", "heads": 1})
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    row = torch.tensor([[2, 40, 41, 42]])
    transformer = model.get_submodule("transformer")
    cache = transformer.new_cache()  # type: ignore[operator]
    steps = [transformer(row[:, :2], cache), transformer(row[:, 2:3], cache), transformer(row[:, 3:], cache)]
    torch.testing.assert_close(torch.cat(steps, dim=1), transformer(row), rtol=1e-4, atol=1e-5)


def test_another_family_is_restructured_by_its_modules_names() -> None:
    class Plain(BaseModel):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            self.steps = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    model = Plain({"task": "text-classification", "labels": 2})
    first = model.steps[0]
    add_operation(model, {"kind": "drop", "module": "steps", "keep": [0, 2]})
    again = Plain(model.config)
    restructure(again, again.config[STRUCTURE])
    assert shapes(again) == shapes(model)
    assert model.steps[0] is first


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"kind": "drop", "module": LAYER, "keep": [2]}, "of 2 layers"),
        ({"kind": "drop", "module": LAYER, "keep": []}, "of 2 layers"),
        ({"kind": "drop", "module": LAYER, "keep": [0, 0]}, "of 2 layers"),
        ({"kind": "drop", "module": LAYER}, "KeyError: 'keep'"),
        ({"kind": "linear", "module": "head", "inputs": 32, "outputs": 0}, "a layer of 32 inputs and 0 outputs"),
        ({"kind": "vocabulary", "module": WORDS, "rows": 4, "fallback": 4}, "row 4 of 4 cannot stand"),
        ({"kind": "linear", "module": "tail", "inputs": 1, "outputs": 1}, "no Linear of this name"),
        ({"kind": "heads", "module": f"{LAYER}.0.output", "heads": 1}, "no attention whose heads"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_the_model(
    bundle: Bundle, operation: dict[str, Any], words: str
) -> None:
    model = load_model(bundle)
    before = shapes(model)
    with pytest.raises(LnmtError, match=words):
        add_operation(model, operation)
    assert (shapes(model), model.config.get(STRUCTURE)) == (before, None)


def test_an_operation_of_a_later_release_is_unknown(bundle: Bundle) -> None:
    with pytest.raises(UnknownName, match="unknown structure operation 'lowrank'") as caught:
        restructure(load_model(bundle), [{"kind": "lowrank", "module": "head"}])
    assert caught.value.fix == "did you mean 'low_rank'?"
