"""The models that engines are measured on: architectures as published, weights drawn by a seed, and their arithmetic.

Time does not depend on the weights. Legend: B = rows, T = tokens, H = width, K = inputs and N = outputs of a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.optimization.candidate import REFERENCE
from lnmt.types import Batch, Task

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel

SEED, PAD_MULTIPLE, LABELS = 7, 8, ("negative", "neutral", "positive")
FIRST_WORD = 1000  # of BERT's vocabulary; below it stand special tokens and letters
NONE = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Published:
    """One published architecture."""

    name: str
    task: Task
    config: dict[str, Any]  # as in its config.json
    batch_sizes: tuple[int, int]  # of the specification's table
    without: tuple[str, ...] = ()  # engines that the smaller models show already, left out for time

    @property
    def width(self) -> int:
        """H."""
        return int(self.config.get("hidden_size") or self.config["n_embd"])

    @property
    def layers(self) -> int:
        """How many blocks."""
        return int(self.config.get("num_hidden_layers") or self.config["n_layer"])

    def products(self) -> list[tuple[int, int, int]]:
        """The products of a token with weights: K, N and how many there are."""
        width, inner = self.width, int(self.config.get("intermediate_size") or 4 * self.width)
        found = [(width, width, 4 * self.layers), (width, inner, self.layers), (inner, width, self.layers)]
        if self.task == "text-generation":
            found.append((width, int(self.config["vocab_size"]), 1))
        return found

    def operations(self, rows: int, tokens: int) -> float:
        """Multiplications and additions of all matrix products for [B, T]; of attention's two as well, whole."""
        weights = sum(inputs * outputs * count for inputs, outputs, count in self.products())
        return 2.0 * rows * tokens * (weights + 2 * self.layers * tokens * self.width)


BERT_BASE = Published(
    "BERT-Base",
    "text-classification",
    {
        "model_type": "bert",
        "vocab_size": 30_522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    (1, 16),
)
BERT_LARGE = Published(
    "BERT-Large",
    "text-classification",
    BERT_BASE.config
    | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    (1, 8),
    without=("torch_compile", "torchscript"),
)
GPT2 = Published(
    "GPT-2",
    "text-generation",
    {"model_type": "gpt2", "vocab_size": 50_257, "n_embd": 768, "n_layer": 12, "n_head": 12},
    (1, 16),
)
MODELS = {one.name: one for one in (BERT_BASE, BERT_LARGE, GPT2)}


def draw_bundle(model: Published, max_tokens: int, target: Path) -> Bundle:
    """A torch bundle of seeded weights. GPT-2's answer is the logits of every token, in every engine alike."""
    import torch

    from lnmt.models import MODELS as TABLE

    name = "causal_lm" if model.task == "text-generation" else "encoder_classifier"
    labels = () if model.task == "text-generation" else LABELS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        made = TABLE.get(name)({"task": model.task, "labels": len(labels), "config": model.config, "dropout": 0.0})
        for parameter_name, parameter in made.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)
            else:
                norm = ".ln_" in parameter_name or "LayerNorm" in parameter_name
                torch.nn.init.constant_(parameter, float(norm and parameter_name.endswith("weight")))
    return write_bundle(made, name, labels, max_tokens, None, target)


def write_bundle(
    model: BaseModel, name: str, labels: tuple[str, ...], max_tokens: int, tokenizer: Path | None, target: Path
) -> Bundle:
    """`model` as a torch bundle. `tokenizer`: the file; None where rows are token ids already."""
    draft = Draft(
        task=model.task,
        labels=list(labels),
        model=model.describe(name),
        engine=REFERENCE.engine,
        precision=REFERENCE.precision,
        max_tokens=max_tokens,
        pad_multiple=PAD_MULTIPLE,
        temperature=1.0,
        processors=[],
        parent=None,
        lineage=Lineage(commit=None, dirty=False, params=NONE, lock=NONE),
        evidence={},
    )
    with new_bundle(target, draft) as directory:
        model.save(directory / "model.safetensors")
        (directory / "tokenizer.json").write_bytes(b"{}" if tokenizer is None else tokenizer.read_bytes())
    return Bundle.open(target)


def full_rows(model: Published, rows: int, tokens: int, rng: np.random.Generator) -> Batch:
    """[B, T] of drawn token ids, none of them padding."""
    ids = rng.integers(FIRST_WORD, int(model.config["vocab_size"]), (rows, tokens))
    return Batch(ids, np.ones_like(ids))
