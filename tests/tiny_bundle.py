"""A real, tiny encoder (2 layers, 32 wide) and bundle for tests: made here, nothing downloaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.params import Plugin
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import WITHOUT_LABELS, Task

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel, ModelSetup

LABELS = ("negative", "neutral", "positive")
LINEAGE = Lineage(commit=None, dirty=False, params="sha256:" + "0" * 64, lock="sha256:" + "1" * 64)
# fmt: off
WORDS = (
    "the", "a", "of", "and", "is", "was", "it", "this", "not", "very", "film", "book", "phone", "price", "plot",
    "good", "great", "love", "fine", "bad", "awful", "hate", "poor", "dull", "okay",
)
# fmt: on
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = tuple(
    dict.fromkeys(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{x}" for x in LETTERS), *"0123456789.,!?'-", *WORDS]
    )
)


def tiny_tokenizer(path: Path) -> int:
    """Write a lower-casing WordPiece tokenizer.json that knows WORDS and every ASCII letter; returns its size."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return len(vocabulary)


def tiny_encoder(directory: Path, seed: int = 0) -> Path:
    """A directory as a hub gives it: config.json, model.safetensors, tokenizer.json. Use it as `local:PATH`."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    size = tiny_tokenizer(directory / "tokenizer.json")
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = BertModel(config, add_pooling_layer=False).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return directory


def tiny_setup(
    encoder: Path | None,
    task: Task = "text-classification",
    labels: Sequence[str] = LABELS,
    *,
    options: dict[str, Any] | None = None,
    max_tokens: int = 20,
    seed: int = 7,
) -> ModelSetup:
    """What a fresh model on `encoder` looks at; of `tiny_encoder`'s vocabulary."""
    from lnmt.models.base import ModelSetup

    return ModelSetup(
        task=task,
        labels=() if task in WITHOUT_LABELS else tuple(labels),
        options={} if options is None else options,
        encoder=encoder,
        vocabulary=len(PIECES),
        max_tokens=max_tokens,
        pad_id=0,
        seed=seed,
    )


def _centre(model: BaseModel, tokenizer: Path) -> None:
    """Shift the head so that the logits of one-word texts have mean 0 for each label."""
    import torch

    batch = Tokenizer(tokenizer, 8).pad(Tokenizer(tokenizer, 8).encode(WORDS))
    with torch.no_grad():
        inputs = {
            "input_ids": torch.from_numpy(batch.input_ids),
            "attention_mask": torch.from_numpy(batch.attention_mask),
        }
        logits, _ = model.eval()(inputs)
        model.get_parameter("head.bias").sub_(logits.mean(dim=0))


def tiny_bundle(
    target: Path, labels: Sequence[str] = LABELS, processors: Sequence[Plugin] = (), *, seed: int = 0
) -> Bundle:
    """A whole torch-engine bundle at `target`, opened. The same arguments give the same bytes.

    Its weights are random, and its head is centred, so that texts get different labels.
    """
    with TemporaryDirectory() as scratch:
        return _make(target, list(labels), list(processors), tiny_encoder(Path(scratch), seed), seed)


def _make(target: Path, labels: list[str], processors: list[Plugin], source: Path, seed: int) -> Bundle:
    import torch

    from lnmt.models.classifier import EncoderClassifier

    model = EncoderClassifier(EncoderClassifier.configure(tiny_setup(source, labels=labels, max_tokens=64)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
            else:
                torch.nn.init.constant_(parameter, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
        _centre(model, source / "tokenizer.json")
    draft = Draft(
        task="text-classification",
        labels=labels,
        model=model.describe("encoder_classifier"),
        engine="torch",
        precision="fp32",
        max_tokens=64,
        pad_multiple=8,
        temperature=1.0,
        processors=processors,
        parent=None,
        lineage=LINEAGE,
        evidence={},
    )
    with new_bundle(target, draft) as directory:
        model.save(directory / "model.safetensors")
        (directory / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return Bundle.open(target)
