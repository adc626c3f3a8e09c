from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models import build_model
from lnmt.models.base import BaseModel, Inputs
from lnmt.models.generate import generate
from lnmt.params import Plugin
from tests.models.model_kit import hugging_face_gpt2
from tests.tiny_bundle import tiny_setup

PROMPT = [5, 40, 41, 7]


@pytest.fixture
def model(gpt2: Path) -> BaseModel:
    return build_model(Plugin(name="causal_lm"), tiny_setup(gpt2, "text-generation"))


class Repeater(BaseModel):
    """A plugin: after token n comes n + 1."""

    tasks = ("text-generation",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        after = nn.functional.one_hot(inputs["input_ids"] + 1, 40).float() * self.one
        return after, after.mean(dim=1)


def test_the_likeliest_tokens_are_hugging_faces(model: BaseModel) -> None:
    theirs: Any = hugging_face_gpt2()
    ids = torch.tensor([PROMPT])
    expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    found = generate(model, PROMPT, 12)
    assert found == expected[0, len(PROMPT) :].tolist()
    assert len(set(found)) > 3, "a model that repeats itself would show nothing"
    assert model.training, "it is left as it was"


def test_remembering_gives_what_reading_all_again_gives(model: BaseModel) -> None:
    tokens = list(PROMPT)
    model.eval()
    with torch.no_grad():
        for _ in range(10):
            ids = torch.tensor([tokens])
            tokens.append(int(model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0][0, -1].argmax()))
    assert generate(model, PROMPT, 10) == tokens[len(PROMPT) :]


def test_it_ends_before_the_end_token_and_where_positions_do(model: BaseModel) -> None:
    found = generate(model, PROMPT, 100)
    assert len(found) == 24 - len(PROMPT)
    end = found[5]
    assert generate(model, PROMPT, 100, end=end) == found[: found.index(end)]


def test_draws_come_from_the_seed_and_a_low_temperature_is_the_likeliest(model: BaseModel) -> None:
    state = torch.get_rng_state()
    hot = [generate(model, PROMPT, 15, temperature=5.0, seed=seed) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    assert generate(model, PROMPT, 15, temperature=1e-4) == generate(model, PROMPT, 15)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plugin_writes_as_well() -> None:
    model = Repeater(Repeater.configure(tiny_setup(None, "text-generation")))
    assert generate(model, [3, 4], 5) == [5, 6, 7, 8, 9]
    assert generate(model, [3, 4], 100)[-1] == 22, "max_tokens are its positions"


@pytest.mark.parametrize(
    ("ids", "changes", "what", "value"),
    [
        ([], {}, "a prompt must leave", "0 tokens"),
        ([1] * 24, {}, "a prompt must leave", "24 tokens"),
        (PROMPT, {"temperature": -1.0}, "temperature is too small", -1.0),
        (PROMPT, {"temperature": float("nan")}, "temperature is too small", None),
        (PROMPT, {"max_new_tokens": 0}, "max_new_tokens is too small", 0),
    ],
)
def test_what_cannot_be_written_is_told(
    model: BaseModel, ids: list[int], changes: dict[str, Any], what: str, value: object
) -> None:
    with pytest.raises(LnmtError, match=what) as caught:
        generate(model, ids, **{"max_new_tokens": 5, **changes})
    assert value is None or caught.value.value == value


def test_a_classifier_writes_no_text(encoder: Path) -> None:
    model = build_model(Plugin(name="encoder_classifier"), tiny_setup(encoder))
    with pytest.raises(LnmtError, match="this model writes no text"):
        generate(model, PROMPT, 5)
