"""Text, token by token.

Legend: T = new tokens, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel
from lnmt.models.calls import call_model
from lnmt.models.causal import CausalLM


def generate(
    model: BaseModel,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    end: int | None = None,
    seed: int = 0,
) -> list[int]:
    """The tokens that follow `ids`: the likeliest each time, or drawn at a temperature above 0 from `seed`.

    Ends after `max_new_tokens`, before the token `end`, or where the model has no more positions. Raises
    LnmtError for a prompt without a token, or with as many as the model has positions.
    """
    _check(model, ids, max_new_tokens, temperature)
    device = next(model.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    found: list[int] = []
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            read = _reader(model)
            new = list(ids)
            for _ in range(min(max_new_tokens, _positions(model) - len(ids))):
                token = _choose(read(torch.tensor([new], device=device)), temperature, draws)
                if token == end:
                    break
                found.append(token)
                new = [token]
    finally:
        model.train(was_training)
    return found


def _reader(model: BaseModel) -> Callable[[Tensor], Tensor]:
    """From the new tokens [1, T] to the logits [V] after the last of them; what came before is remembered."""
    if isinstance(model, CausalLM):
        past = model.transformer.new_cache()
        return lambda new: model.predict_next(model.transformer(new, past)[0, -1])
    seen: list[Tensor] = []

    def read_all(new: Tensor) -> Tensor:
        seen.append(new)
        tokens = torch.cat(seen, dim=1)
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        return call_model(model, inputs, model.task).logits[0, -1]

    return read_all


def _choose(logits: Tensor, temperature: float, draws: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    shares = (logits.float().cpu() / temperature).softmax(dim=0)
    return int(torch.multinomial(shares, 1, generator=draws))


def _positions(model: BaseModel) -> int:
    return model.transformer.positions if isinstance(model, CausalLM) else int(model.config["max_tokens"])


def _check(model: BaseModel, ids: Sequence[int], max_new_tokens: int, temperature: float) -> None:
    if model.task != "text-generation":
        raise LnmtError(
            "this model writes no text",
            where="generate",
            value=model.task,
            allowed="text-generation",
            fix="train one with params.yaml: task: text-generation",
        )
    if not 0 < len(ids) < _positions(model):
        raise LnmtError(
            "a prompt must leave the model a token to start from, and room for one more",
            where="generate",
            value=f"{len(ids)} tokens",
            allowed=f"1 … {_positions(model) - 1}",
            fix="shorten the prompt" if ids else "give a text, or the end-of-text token to start from nothing",
        )
    for name, value, least in (("max_new_tokens", max_new_tokens, 1), ("temperature", temperature, 0)):
        if not value >= least:
            raise LnmtError(
                f"{name} is too small", where="generate", value=value, allowed=f"at least {least}", fix="raise it"
            )
