from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lnmt.models.bert import BertEncoder, is_plain

IDS = torch.randint(1, 50, (4, 19), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * length + [0] * (19 - length) for length in (19, 1, 12, 7)])
HOLES = torch.tensor([[0] * 4 + [1] * 15, [1] * 19, [1, 0] * 9 + [1], [0] * 12 + [1] * 7])


def pair(**changes: Any) -> tuple[nn.Module, BertEncoder]:
    """Hugging Face's BERT and ours with the same weights in double precision, without dropout."""
    from transformers import BertConfig, BertModel

    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 2}
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        **settings | changes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs: nn.Module = BertModel(config, add_pooling_layer=False)
        for name, parameter in theirs.named_parameters():
            nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.3)
    ours = BertEncoder(config.to_dict())
    ours.load_state_dict(theirs.state_dict())
    return theirs.double(), ours.double()


def states_of(model: nn.Module, mask: Tensor) -> Tensor:
    """The states of the tokens, [N, H]."""
    found = model(input_ids=IDS, attention_mask=mask)
    states: Tensor = found if isinstance(found, Tensor) else found.last_hidden_state
    return states[mask.bool()]


@pytest.mark.parametrize("mask", [MASK, HOLES], ids=["right", "holes"])
@pytest.mark.parametrize("training", [False, True])
def test_it_computes_what_hugging_face_computes(training: bool, mask: Tensor) -> None:
    theirs, ours = (model.train(training) for model in pair())
    torch.testing.assert_close(states_of(ours, mask), states_of(theirs, mask), rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_its_gradients_are_those_of_hugging_face(training: bool) -> None:
    theirs, ours = (model.train(training) for model in pair())
    weights = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for model in (theirs, ours):
        torch.autograd.backward((states_of(model, MASK).tanh() * weights).sum())
    found, wanted = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert found.keys() == wanted.keys()
    for name, parameter in wanted.items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-6, atol=1e-10, msg=name)


def test_fp32_is_within_a_hundred_thousandth() -> None:
    theirs, ours = (model.float().eval() for model in pair())
    torch.testing.assert_close(states_of(ours, MASK), states_of(theirs, MASK), rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_are_hugging_faces_too(activation: str) -> None:
    theirs, ours = pair(hidden_act=activation)
    torch.testing.assert_close(states_of(ours.eval(), MASK), states_of(theirs.eval(), MASK), rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_a_row_of_padding_harms_nobody(training: bool) -> None:
    ours = pair()[1].train(training)
    mask = MASK.clone()
    mask[1] = 0
    states = ours(IDS, mask)
    assert states.isfinite().all()
    assert torch.equal(states[0], ours(IDS, MASK)[0])
    torch.autograd.backward(states[mask.bool()].sum())
    assert all(one.grad is None or one.grad.isfinite().all() for one in ours.parameters())


def test_states_are_bf16_under_autocast_and_close() -> None:
    ours = pair()[1].float().train()
    exact = states_of(ours, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = states_of(ours, MASK)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - exact).detach().norm() / exact.detach().norm()) < 0.03
    torch.autograd.backward(rounded.float().sum())
    assert {one.grad.dtype for one in ours.parameters() if one.grad is not None} == {torch.float32}


def test_bf16_weights_answer_in_bf16() -> None:
    ours = pair()[1].eval()
    exact = states_of(ours, MASK)
    rounded = states_of(ours.bfloat16(), MASK)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded - exact).detach().norm() / exact.detach().norm()) < 0.03


def test_dropout_is_drawn_from_torchs_generator() -> None:
    ours = pair(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)[1].train()
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1, 0):
            torch.manual_seed(seed)
            found.append(states_of(ours, MASK))
    first, second, again = found
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(states_of(ours.eval(), MASK), states_of(ours, MASK))


def test_checkpointed_layers_give_the_same_gradients() -> None:
    found = []
    for checkpointing in (False, True):
        ours = pair(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)[1].train()
        ours.checkpointing = checkpointing
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.autograd.backward(states_of(ours, MASK).square().sum())
        found.append([one.grad for one in ours.parameters()])
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert again is not None
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=0)


def test_a_layer_in_the_place_of_a_projection_is_called() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Linear's own name)
            return 2 * super().forward(input)

    ours = pair()[1].train()
    expected = pair()[1].train()
    attention = ours.get_submodule("encoder.layer.0.attention.self")
    query = attention.get_submodule("query")
    doubled = Doubled(32, 32).double()
    doubled.load_state_dict(query.state_dict())
    attention.register_module("query", doubled)
    with torch.no_grad():
        for parameter in expected.get_submodule("encoder.layer.0.attention.self.query").parameters():
            parameter.mul_(2)
    torch.testing.assert_close(states_of(ours, MASK), states_of(expected, MASK), rtol=0, atol=1e-12)


def test_it_is_exported_with_any_rows_and_tokens(tmp_path: Path) -> None:
    import logging
    import warnings

    import onnxruntime

    ours = pair()[1].float().eval()
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=24)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ours, (IDS, MASK), dynamo=True, opset_version=23, dynamic_shapes=(shape, shape), verbose=False
        )
    assert program is not None
    program.save(tmp_path / "bert.onnx")
    assert [node.op_type for node in program.model.graph].count("Attention") == 2
    session = onnxruntime.InferenceSession(tmp_path / "bert.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    for ids, mask in ((IDS, MASK), (IDS[:1, :5], MASK[:1, :5])):
        (states,) = session.run(None, dict(zip(names, (ids.numpy(), mask.numpy()), strict=True)))
        expected = ours(ids, mask).detach().numpy()
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({}, True),
        ({"hidden_act": "quick_gelu"}, False),
        ({"position_embedding_type": "relative_key"}, False),
        ({"is_decoder": True}, False),
    ],
)
def test_it_knows_what_it_can_compute(config: dict[str, Any], plain: bool) -> None:
    assert is_plain(config) is plain
