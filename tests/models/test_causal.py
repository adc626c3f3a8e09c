from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from lnmt.errors import LnmtError, UnknownName
from lnmt.models import build_model
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.models.causal import CausalLM
from lnmt.params import Plugin
from lnmt.types import IGNORED
from tests.models.model_kit import hugging_face_gpt2, inputs_of, save_gpt2
from tests.tiny_bundle import PIECES, tiny_setup

INPUTS = inputs_of([5, 40, 41, 7, 9, 60, 3], [8, 50, 3], [77])


def build(directory: Path, **options: Any) -> BaseModel:
    return build_model(Plugin(name="causal_lm"), tiny_setup(directory, "text-generation", options=options))


def batch_of() -> TrainingBatch:
    labels = INPUTS["input_ids"].masked_fill(INPUTS["attention_mask"] == 0, IGNORED)
    return TrainingBatch(INPUTS["input_ids"], INPUTS["attention_mask"], labels, ("a", "b", "c"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_inner": 48, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "activation_function": "gelu"},
    ],
)
def test_it_is_hugging_faces_model(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs: Any = hugging_face_gpt2(**changes)
    model = build(save_gpt2(theirs, tmp_path / "gpt2")).eval()
    with torch.no_grad():
        expected = theirs.transformer(**INPUTS).last_hidden_state
        logits, pooled = model(INPUTS)
        kept = INPUTS["attention_mask"] == 1
        torch.testing.assert_close(logits[kept], theirs(**INPUTS).logits[kept], rtol=1e-5, atol=1e-5)
    assert float(logits.std()) > 1.0, "weights large enough that a mistake would show"
    for row, length in enumerate((7, 3, 1)):
        torch.testing.assert_close(pooled[row], expected[row, :length].mean(dim=0), rtol=1e-5, atol=1e-5)


def test_a_file_of_the_bare_model_is_read_as_well(gpt2: Path, tmp_path: Path) -> None:
    bare = save_gpt2(hugging_face_gpt2(), tmp_path / "bare", prefix="")
    for (name, tensor), other in zip(build(gpt2).state_dict().items(), build(bare).state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


def test_the_embedding_is_the_output_layer_and_stored_once(gpt2: Path, tmp_path: Path) -> None:
    model = build(gpt2)
    model.save(tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert [name for name in stored if "transformer.h." not in name] == [
        "transformer.ln_f.bias",
        "transformer.ln_f.weight",
        "transformer.wpe.weight",
        "transformer.wte.weight",
    ]
    torch.autograd.backward(model.training_step(batch_of()))
    gradient = model.get_parameter("transformer.wte.weight").grad
    assert gradient is not None
    assert int(gradient.abs().sum(dim=1).ne(0).sum()) == len(PIECES), "tokens that were not read are scored"


def test_no_token_sees_those_after_it_or_padding(gpt2: Path) -> None:
    model = build(gpt2).eval()
    with torch.no_grad():
        logits, pooled = model(INPUTS)
        shorter, pooled_alone = model(inputs_of([8, 50, 3]))
        cut, _ = model(inputs_of([5, 40, 41]))
    torch.testing.assert_close(logits[1, :3], shorter[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled[1], pooled_alone[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits[0, :3], cut[0], rtol=1e-5, atol=1e-5)


def test_the_step_is_the_cross_entropy_of_the_next_tokens(gpt2: Path) -> None:
    model, batch = build(gpt2).eval(), batch_of()
    with torch.no_grad():
        logits, _ = model(batch.inputs)
        loss = model.training_step(batch)
    pairs = [(0, place) for place in range(6)] + [(1, 0), (1, 1)]
    before = torch.stack([logits[row, place] for row, place in pairs])
    after = torch.stack([batch.input_ids[row, place + 1] for row, place in pairs])
    torch.testing.assert_close(loss, functional.cross_entropy(before, after))


def test_the_option_dropout_replaces_the_models_own(gpt2: Path) -> None:
    def shares(model: BaseModel) -> set[float]:
        return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}

    own, without = build(gpt2), build(gpt2, dropout=0.0)
    assert (shares(own), shares(without)) == ({0.1}, {0.0})
    batch = batch_of()
    assert float(own.training_step(batch).detach()) != float(own.training_step(batch).detach())
    assert float(without.training_step(batch).detach()) == float(without.training_step(batch).detach())


def test_gradient_checkpointing_gives_the_same_gradients(gpt2: Path) -> None:
    plain, saving = build(gpt2), build(gpt2)
    calls: list[str] = []
    for name, model in (("plain", plain), ("saving", saving)):
        model.get_submodule("transformer.h.0.attn").register_forward_hook(lambda *_, name=name: calls.append(name))
    saving.enable_gradient_checkpointing()
    for model in (plain, saving):
        torch.manual_seed(0)  # dropout draws the same in both, and again on the way back
        torch.autograd.backward(model.training_step(batch_of()))
    assert calls == ["plain", "saving", "saving"]
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_layers_go_from_the_embeddings_over_the_blocks(gpt2: Path) -> None:
    model = build(gpt2)
    assert model.layers() == [
        ["transformer.wte.weight", "transformer.wpe.weight"],
        ["transformer.h.0."],
        ["transformer.h.1.", "transformer.ln_f.weight", "transformer.ln_f.bias"],
    ]
    assert model.heads() == []


class Exported(nn.Module):
    """As the ONNX export wraps a model."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        logits, pooled = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return logits, pooled


@pytest.mark.filterwarnings("ignore")  # of the exporter's own making
def test_it_is_exported_for_any_number_of_rows_and_tokens(gpt2: Path, caplog: pytest.LogCaptureFixture) -> None:
    import onnxruntime

    caplog.set_level(logging.ERROR, logger="torch.onnx")
    model = build(gpt2).eval()
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=24)}
    example = torch.ones((2, 16), dtype=torch.int64)
    program: Any = torch.onnx.export(
        Exported(model),
        (example, torch.ones_like(example)),  # the same tensor twice would be taken for one input
        dynamo=True,
        opset_version=23,
        dynamic_shapes=(shape, shape),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits", "pooled"],
        verbose=False,
    )
    proto = program.model_proto
    assert [node.op_type for node in proto.graph.node].count("Attention") == 2, "one operator a block"
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for inputs in (INPUTS, inputs_of([4, 5])):
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        found = session.run(["logits", "pooled"], feed)
        with torch.no_grad():
            expected = model(inputs)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-5)


def rewrite(directory: Path, **values: Any) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return directory


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return save_gpt2(hugging_face_gpt2(), tmp_path / "copy")


def test_a_model_of_another_family_or_form_is_refused(copy: Path) -> None:
    with pytest.raises(UnknownName, match="unknown causal model family 'gptj'"):
        build(rewrite(copy, model_type="gptj"))
    rewrite(copy, model_type="gpt2")
    with pytest.raises(UnknownName, match="unknown activation function 'gelu_knew'") as caught:
        build(rewrite(copy, activation_function="gelu_knew"))
    assert caught.value.fix == "did you mean 'gelu_new'?"
    rewrite(copy, activation_function="gelu_new")
    with pytest.raises(LnmtError, match="output layer of its own"):
        build(rewrite(copy, tie_word_embeddings=False))


def test_texts_longer_than_its_positions_are_refused(copy: Path) -> None:
    with pytest.raises(LnmtError, match="longer than the encoder has positions") as caught:
        build(rewrite(copy, n_positions=19, n_ctx=19))
    assert caught.value.allowed == "at most 19"


def test_weights_that_do_not_fit_are_told(copy: Path) -> None:
    path = copy / "model.safetensors"
    stored = load_file(path)
    save_file({**stored, "transformer.ln_f.bias": torch.zeros(33)}, path)
    with pytest.raises(LnmtError, match="do not fit its config.json") as caught:  # noqa: RUF043
        build(copy)
    assert (caught.value.value, caught.value.allowed) == ("ln_f.bias: [33]", "[32]")
    save_file({name: tensor for name, tensor in stored.items() if "ln_f" not in name}, path)
    with pytest.raises(LnmtError, match="the model's weights lack 2 of 28 tensors") as caught:
        build(copy)
    assert caught.value.value == "ln_f.bias, ln_f.weight"


def test_half_precision_files_become_fp32(copy: Path) -> None:
    path = copy / "model.safetensors"
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(path).items()}, path)
    model = build(copy)
    assert isinstance(model, CausalLM)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
