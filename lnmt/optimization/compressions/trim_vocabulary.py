"""Rows of the word embedding that no training text uses are taken out; a fallback stands for them.

Legend: V = vocabulary, R = rows kept, H = width, N = rows of a split, B = rows of a batch, T = tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.structure import TrimmedEmbedding, add_operation, find_module
from lnmt.optimization.compressions import WeightCompression

if TYPE_CHECKING:
    from lnmt.data.batches import Examples
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop
    from lnmt.text.tokenizer import Tokenizer

Fallback = Literal["unk", "mean"]
READ_ROWS = 4096  # of a split at once


class TrimVocabulary(WeightCompression):
    """Keeps the embedding's rows of tokens that train uses, and of all special tokens; the tokenizer stays as it is.

    It makes a model smaller, not faster. fallback: what the other tokens get, `unk`: the row of the tokenizer's
    unknown token, `mean`: the mean of the rows taken out. min_count: how often train must use a token.
    """

    def __init__(self, fallback: Fallback = "unk", min_count: int = 1) -> None:
        if fallback not in get_args(Fallback):
            raise UnknownName("fallback", fallback, get_args(Fallback), where="trim_vocabulary.fallback")
        if min_count < 1:
            raise LnmtError(
                "min_count is below 1", where="trim_vocabulary.min_count", value=min_count, allowed="an integer ≥ 1"
            )
        self._fallback, self._min_count = fallback, min_count
        self._decided: dict[str, Any] = {}

    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        batch = shop.calibration[0]
        inputs = {
            "input_ids": torch.from_numpy(batch.input_ids),
            "attention_mask": torch.from_numpy(batch.attention_mask),
        }
        name = word_embedding(model, inputs)
        weight = find_module(model, name, nn.Embedding).weight.detach()
        kept = self._keep(shop.data.train, shop.tokenizer, len(weight))
        if kept.all():
            raise LnmtError(
                "train uses every token of the vocabulary: there is nothing to take out",
                where=name,
                value=f"{len(weight)} rows, min_count {self._min_count}",
                fix="raise trim_vocabulary.min_count, or take it out of params.yaml: optimize.compressions",
            )
        _trim(model, name, weight, kept, self._stand_in(kept, shop.tokenizer))
        after = find_module(model, name, TrimmedEmbedding)
        tokens, rows = fall_backs(shop.data.validation, kept)
        saved = 4 * weight.numel() - 4 * after.rows.weight.numel() - 8 * len(weight)  # fp32, and an index of int64
        self._decided = {
            "rows_before": len(weight),
            "rows_kept": int(kept.sum()),
            "mb_saved": saved / 1e6,
            "validation_tokens_that_fall_back": tokens,
            "validation_texts_with_such_tokens": rows,
        }
        return model.eval()

    def decided(self) -> dict[str, Any]:
        return self._decided

    def _keep(self, train: Examples, tokenizer: Tokenizer, size: int) -> NDArray[np.bool_]:
        """[V], whether a token's row stays."""
        counts = np.zeros(size, dtype=np.int64)
        for tokens in _in_pieces(train):
            counts += np.bincount(np.concatenate(tokens), minlength=size)
        kept = counts >= self._min_count
        special = [place for place, token in tokenizer.rust.get_added_tokens_decoder().items() if token.special]
        kept[[tokenizer.pad_id, *special]] = True
        unknown = unknown_id(tokenizer)
        if unknown is not None:
            kept[unknown] = True
        return kept

    def _stand_in(self, kept: NDArray[np.bool_], tokenizer: Tokenizer) -> int | None:
        """The token whose row stands for those taken out; None: a row of their own."""
        if self._fallback == "mean":
            return None
        unknown = unknown_id(tokenizer)
        if unknown is None:
            raise LnmtError(
                "the tokenizer has no unknown token to fall back to",
                where=tokenizer.path,
                allowed="a model with unk_token or unk_id",
                fix="set trim_vocabulary.fallback: mean",
            )
        return unknown


@torch.no_grad()
def word_embedding(model: BaseModel, inputs: dict[str, Tensor]) -> str:
    """The name of the embedding that `model` looks its token ids up in.

    Raises LnmtError where none does, or where its rows are used otherwise too: as the output layer.
    """
    seen: list[str] = []
    ids = inputs["input_ids"]

    def watch(name: str) -> Any:
        def before(_: nn.Module, given: tuple[Any, ...]) -> None:
            if given[0].shape == ids.shape and torch.equal(given[0], ids):
                seen.append(name)

        return before

    embeddings = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in embeddings.items()]
    try:
        model.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
    where = f"{type(model).__module__}.{type(model).__qualname__}"
    drop = "take trim_vocabulary out of params.yaml: optimize.compressions"
    if len(set(seen)) != 1:
        raise LnmtError(
            "the model has no one embedding of its token ids",
            where=where,
            value=", ".join(seen) or "none was called with them",
            allowed="one torch.nn.Embedding",
            fix=drop,
        )
    name = seen[0]
    shared = [other for other, one in model.named_parameters(remove_duplicate=False) if one is embeddings[name].weight]
    if model.task == "text-generation" or len(shared) > 1:
        raise LnmtError(
            "the embedding is the output layer too: a token without a row could never be predicted",
            where=where,
            value=", ".join(shared),
            allowed="an embedding that is only looked up",
            fix=drop,
        )
    return name


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token that stands for what the tokenizer does not know; None where it has none."""
    model = json.loads(tokenizer.rust.to_str())["model"]
    if model.get("unk_id") is not None:  # Unigram
        return int(model["unk_id"])
    token = model.get("unk_token")
    found = None if token is None else tokenizer.rust.token_to_id(token)
    return None if found is None else int(found)


def fall_backs(examples: Examples, kept: NDArray[np.bool_]) -> tuple[float, float]:
    """The share of a split's tokens whose row is gone, and the share of its rows with such a token."""
    tokens = rows = 0
    for some in _in_pieces(examples):
        gone = [int((~kept[row]).sum()) for row in some]
        tokens += sum(gone)
        rows += sum(count > 0 for count in gone)
    return tokens / max(int(examples.lengths.sum()), 1), rows / max(len(examples), 1)


@torch.no_grad()
def _trim(model: BaseModel, name: str, weight: Tensor, kept: NDArray[np.bool_], stand_in: int | None) -> None:
    """Put an embedding of the `kept` rows [V] in the place of the one called `name`."""
    places = torch.from_numpy(np.flatnonzero(kept))
    rows = weight[places]
    index = torch.zeros(len(weight), dtype=torch.int64)
    index[places] = torch.arange(len(places))
    if stand_in is None:
        fallback = len(rows)
        rows = torch.cat([rows, weight[torch.from_numpy(~kept)].mean(dim=0, keepdim=True)])
    else:
        fallback = int(index[stand_in])
    index[torch.from_numpy(~kept)] = fallback
    add_operation(model, {"kind": "vocabulary", "module": name, "rows": len(rows), "fallback": fallback})
    made = find_module(model, name, TrimmedEmbedding)
    made.rows.weight.copy_(rows)
    made.index.copy_(index)


def _in_pieces(examples: Examples) -> Any:
    """Rows of token ids, READ_ROWS at a time."""
    for start in range(0, len(examples), READ_ROWS):
        yield examples.rows(np.arange(start, min(start + READ_ROWS, len(examples))))
