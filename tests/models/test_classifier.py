from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lnmt.models import build_model
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.params import Plugin
from lnmt.types import IGNORED, Task
from tests.models.model_kit import inputs_of
from tests.tiny_bundle import tiny_setup

INPUTS = inputs_of([2, 40, 41, 3], [2, 50, 3])
FAMILIES: dict[Task, str] = {
    "text-classification": "encoder_classifier",
    "multi-label-classification": "encoder_classifier",
    "text-regression": "encoder_classifier",
    "token-classification": "token_classifier",
}


def build(encoder: Path, task: Task) -> BaseModel:
    return build_model(Plugin(name=FAMILIES[task]), tiny_setup(encoder, task))


def batch_of(labels: torch.Tensor) -> TrainingBatch:
    return TrainingBatch(INPUTS["input_ids"], INPUTS["attention_mask"], labels, ("a", "b"))


@pytest.mark.parametrize("task", FAMILIES)
def test_padding_changes_nothing(encoder: Path, task: Task) -> None:
    model = build(encoder, task).eval()
    with torch.no_grad():
        logits, pooled = model(INPUTS)
        alone, pooled_alone = model({name: tensor[1:, :3] for name, tensor in INPUTS.items()})
    kept = logits[1:, :3] if task == "token-classification" else logits[1:]
    torch.testing.assert_close(kept, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled[1:], pooled_alone, rtol=1e-5, atol=1e-6)


def test_pooled_is_the_mean_of_the_states_of_the_tokens(encoder: Path) -> None:
    model = build(encoder, "token-classification").eval()
    with torch.no_grad():
        states = model.get_submodule("encoder")(INPUTS["input_ids"], INPUTS["attention_mask"])
        _, pooled = model(INPUTS)
    torch.testing.assert_close(pooled[0], states[0].mean(dim=0))
    torch.testing.assert_close(pooled[1], states[1, :3].mean(dim=0))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("text-classification", torch.tensor([2, 0])),
        ("multi-label-classification", torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])),
        ("text-regression", torch.tensor([80.0, 20.0])),
        ("token-classification", torch.tensor([[IGNORED, 1, 2, IGNORED], [IGNORED, 0, IGNORED, IGNORED]])),
    ],
)
def test_every_task_learns_a_batch_by_heart(encoder: Path, task: Task, labels: torch.Tensor) -> None:
    model, batch = build(encoder, task), batch_of(labels)
    if task == "text-regression":
        model.fit_targets(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)  # of dropout
    for _ in range(30):
        torch.autograd.backward(model.training_step(batch))
        optimizer.step()
        optimizer.zero_grad()
    logits = model.eval().validation_step(batch).logits.detach()
    if task == "text-regression":
        assert float((logits[:, 0] - labels).abs().max()) < 10.0, "in the targets' units"
    elif task == "multi-label-classification":
        assert torch.equal((logits > 0).float(), labels)
    else:
        known = labels != IGNORED
        assert torch.equal(logits.argmax(dim=-1)[known], labels[known])


def test_layers_go_from_the_embeddings_over_the_blocks_to_the_head(encoder: Path) -> None:
    model = build(encoder, "text-classification")
    layers = model.layers()
    names = [name for name, _ in model.named_parameters()]
    assert [len([name for name in names if name.startswith(tuple(layer))]) for layer in layers] == [5, 16, 16, 2]
    assert sum(name.startswith(tuple(layer)) for name in names for layer in layers) == len(names)
    assert model.heads() == layers[-1] == ["head."]


def test_gradient_checkpointing_gives_the_same_gradients(encoder: Path) -> None:
    plain, saving = build(encoder, "text-classification"), build(encoder, "text-classification")
    calls: list[str] = []
    for name, model in (("plain", plain), ("saving", saving)):
        model.get_submodule("encoder.encoder.layer.0.attention.output.dense").register_forward_hook(
            lambda *_, name=name: calls.append(name)
        )
    saving.enable_gradient_checkpointing()
    for model in (plain, saving):
        torch.manual_seed(0)  # dropout draws the same in both, and again on the way back
        torch.autograd.backward(model.training_step(batch_of(torch.tensor([2, 0]))))
    assert calls == ["plain", "saving", "saving"]
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_a_bf16_model_answers_in_the_targets_units(encoder: Path) -> None:
    model = build(encoder, "text-regression").eval()
    model.fit_targets(torch.tensor([1000.0, 1100.0]))
    with torch.no_grad():
        exact = model(INPUTS).logits
        coarse = model.to(torch.bfloat16)(INPUTS).logits
    assert coarse.dtype == torch.float32
    assert float((coarse - exact).abs().max()) < 1.0, "a fiftieth of the spread; bf16 alone knows 1048 and 1056"
