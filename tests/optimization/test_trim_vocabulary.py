from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import build_model, load_model
from lnmt.models.base import BaseModel, Inputs, Outputs
from lnmt.optimization.compressions import COMPRESSIONS
from lnmt.optimization.compressions.trim_vocabulary import TrimVocabulary, fall_backs, unknown_id, word_embedding
from lnmt.params import Plugin
from lnmt.text.tokenizer import Tokenizer
from tests.models.model_kit import hugging_face_gpt2, save_gpt2
from tests.optimization.weights_kit import as_bundle, examples, exported_logits, inputs_of, logits, workshop
from tests.tiny_bundle import LABELS, LETTERS, PIECES, tiny_bundle, tiny_setup
from tests.training.training_kit import FILLING, SIGNS

WORDS = "encoder.embeddings.word_embeddings"
KEPT = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLING, *(word for words in SIGNS.values() for word in words)}
KNOWN, UNKNOWN, SPELT = "the film was great", "the phone is dull", "zzz"  # `dull`, `is`, z: not in train


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("trim") / "bundle")


pytestmark = pytest.mark.usefixtures("one_thread")


def tokens(bundle: Bundle, *texts: str) -> Any:
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), 64)
    return tokenizer.pad(tokenizer.encode(texts))


def test_it_is_registered() -> None:
    assert COMPRESSIONS.get("trim_vocabulary", where="here") is TrimVocabulary


@pytest.mark.parametrize("fallback", ["unk", "mean"])
def test_texts_of_known_tokens_are_answered_as_before_to_the_bit(bundle: Bundle, tmp_path: Path, fallback: Any) -> None:
    shop = workshop(bundle, tmp_path)
    compression = TrimVocabulary(fallback)
    model = compression.compress(load_model(bundle), shop)
    np.testing.assert_array_equal(logits(model, shop.calibration), logits(load_model(bundle), shop.calibration))
    rows = model.get_parameter(f"{WORDS}.rows.weight")
    assert len(rows) == len(KEPT) + (fallback == "mean")
    assert compression.decided() == {
        "rows_before": len(PIECES),
        "rows_kept": len(KEPT),
        "mb_saved": (4 * 32 * (len(PIECES) - len(rows)) - 8 * len(PIECES)) / 1e6,
        "validation_tokens_that_fall_back": 0.0,
        "validation_texts_with_such_tokens": 0.0,
    }


def test_other_tokens_are_the_unknown_token(bundle: Bundle, tmp_path: Path) -> None:
    model = TrimVocabulary().compress(load_model(bundle), workshop(bundle, tmp_path))
    batch = tokens(bundle, UNKNOWN)
    kept = np.array([piece in KEPT for piece in PIECES])
    batch.input_ids[~kept[batch.input_ids]] = PIECES.index("[UNK]")
    expected = logits(load_model(bundle), [batch])
    np.testing.assert_array_equal(logits(model, [tokens(bundle, UNKNOWN)]), expected)
    assert not np.array_equal(logits(load_model(bundle), [tokens(bundle, UNKNOWN)]), expected)


def test_other_tokens_are_the_mean_of_the_rows_taken_out(bundle: Bundle, tmp_path: Path) -> None:
    model = TrimVocabulary("mean").compress(load_model(bundle), workshop(bundle, tmp_path))
    before = load_model(bundle).get_parameter(f"{WORDS}.weight").detach()
    gone = torch.tensor([piece not in KEPT for piece in PIECES])
    looked_up = model.get_submodule(WORDS)(torch.arange(len(PIECES)))
    torch.testing.assert_close(looked_up[gone], before[gone].mean(0).expand(int(gone.sum()), -1))
    assert torch.equal(looked_up[~gone], before[~gone])


def test_rare_tokens_go_with_a_higher_count(bundle: Bundle, tmp_path: Path) -> None:
    train = [("a", "good good film", "positive"), ("b", "bad film", "negative")] * 8
    compression = TrimVocabulary(min_count=16)
    compression.compress(load_model(bundle), workshop(bundle, tmp_path, train=train))
    assert compression.decided()["rows_kept"] == 4 + 2, "good and film; the special tokens stay whatever they count"


def test_what_falls_back_is_counted(bundle: Bundle, tmp_path: Path) -> None:
    rows = [("a", KNOWN, "positive"), ("b", UNKNOWN, "negative"), ("c", SPELT, "negative")]
    compression = TrimVocabulary()
    compression.compress(load_model(bundle), workshop(bundle, tmp_path, validation=rows))
    decided = compression.decided()
    assert decided["validation_texts_with_such_tokens"] == 2 / 3
    assert decided["validation_tokens_that_fall_back"] == 5 / 17  # is, dull, z, ##z, ##z of 6 + 6 + 5
    assert fall_backs(examples([], Tokenizer(bundle.file("tokenizer.json"), 64)), np.ones(3, bool)) == (0.0, 0.0)


@pytest.mark.parametrize("fallback", ["unk", "mean"])
def test_the_bundle_and_the_engines_answer_alike(bundle: Bundle, tmp_path: Path, fallback: Any) -> None:
    model = TrimVocabulary(fallback).compress(load_model(bundle), workshop(bundle, tmp_path))
    made = as_bundle(model, bundle, tmp_path / "made")
    batches = [tokens(bundle, KNOWN, UNKNOWN, SPELT), tokens(bundle, UNKNOWN)]
    expected = logits(model, batches)
    np.testing.assert_array_equal(logits(load_model(made), batches), expected)
    np.testing.assert_allclose(exported_logits(made, tmp_path / "onnx", batches), expected, atol=1e-4)
    compiled = openvino.Core().compile_model(
        str(tmp_path / "onnx/model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = [compiled([batch.input_ids, batch.attention_mask])["logits"] for batch in batches]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4)


def test_the_index_survives_bf16(bundle: Bundle, tmp_path: Path) -> None:
    model = TrimVocabulary().compress(load_model(bundle), workshop(bundle, tmp_path)).to(torch.bfloat16)
    assert model.get_buffer(f"{WORDS}.index").dtype == torch.int64
    assert model.get_parameter(f"{WORDS}.rows.weight").dtype == torch.bfloat16


def test_a_tied_head_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    directory = save_gpt2(hugging_face_gpt2(), tmp_path / "gpt2")
    model = build_model(Plugin(name="causal_lm"), tiny_setup(directory, "text-generation"))
    with pytest.raises(LnmtError, match="the embedding is the output layer too") as caught:
        TrimVocabulary().compress(model, workshop(bundle, tmp_path))
    assert "wte.weight" in str(caught.value.value)
    assert "structure" not in model.config


class Tied(BaseModel):
    """Its head has the embedding's parameter."""

    def __init__(self) -> None:
        super().__init__({"task": "text-classification", "labels": len(PIECES)})
        self.words = nn.Embedding(len(PIECES), 8)
        self.head = nn.Linear(8, len(PIECES))
        self.head.weight = self.words.weight

    def forward(self, inputs: Inputs) -> Outputs:
        pooled = self.words(inputs["input_ids"]).mean(dim=1)
        return Outputs(self.head(pooled), pooled)


class Loose(BaseModel):
    """It looks its tokens up without an embedding."""

    def __init__(self) -> None:
        super().__init__({"task": "text-classification", "labels": 3})
        self.words = nn.Parameter(torch.zeros(len(PIECES), 3))

    def forward(self, inputs: Inputs) -> Outputs:
        pooled = self.words[inputs["input_ids"]].mean(dim=1)
        return Outputs(pooled, pooled)


@pytest.mark.parametrize(
    ("kind", "match"), [(Tied, "the embedding is the output layer too"), (Loose, "no one embedding")]
)
def test_a_model_whose_rows_serve_otherwise_is_refused(
    bundle: Bundle, tmp_path: Path, kind: type[BaseModel], match: str
) -> None:
    with pytest.raises(LnmtError, match=match):
        TrimVocabulary().compress(kind(), workshop(bundle, tmp_path))  # type: ignore[call-arg]


def test_it_is_not_done_twice(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    model = TrimVocabulary().compress(load_model(bundle), shop)
    with pytest.raises(LnmtError, match="no one embedding"):
        TrimVocabulary().compress(model, shop)


def test_the_word_embedding_is_found_by_what_it_is_asked(bundle: Bundle, tmp_path: Path) -> None:
    inputs = dict(inputs_of(workshop(bundle, tmp_path).calibration[0]))
    assert word_embedding(load_model(bundle), inputs) == WORDS


def test_a_vocabulary_that_train_uses_whole_is_told(bundle: Bundle, tmp_path: Path) -> None:
    whole = [piece for piece in PIECES if not piece.startswith(("##", "["))]
    texts = [" ".join(whole[start : start + 30]) for start in range(0, len(whole), 30)]
    texts += [" ".join(f"q{letter}" for letter in LETTERS[half::2]) for half in (0, 1)]  # q ##a q ##b …
    train = [(str(place), text, LABELS[place % 3]) for place, text in enumerate(texts)]
    with pytest.raises(LnmtError, match="train uses every token"):
        TrimVocabulary().compress(load_model(bundle), workshop(bundle, tmp_path, train=train))


def test_a_tokenizer_without_an_unknown_token_needs_the_mean(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    document = json.loads(shop.tokenizer.path.read_text())
    document["model"]["unk_token"] = "<none>"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    shop.__dict__["tokenizer"] = Tokenizer(path, 64)  # the cached property
    with pytest.raises(LnmtError, match="no unknown token") as caught:
        TrimVocabulary().compress(load_model(bundle), shop)
    assert caught.value.fix == "set trim_vocabulary.fallback: mean"
    TrimVocabulary("mean").compress(load_model(bundle), shop)


def test_unknown_tokens_of_each_kind_of_tokenizer(bundle: Bundle, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models

    kinds = {
        "unigram": (models.Unigram([("<s>", 0.0), ("<unk>", 0.0), ("a", -1.0)], unk_id=1), 1),
        "bpe": (models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>"), 1),
        "byte level": (models.BPE({"a": 0, "b": 1}, []), None),
    }
    assert unknown_id(Tokenizer(bundle.file("tokenizer.json"), 64)) == PIECES.index("[UNK]")
    for name, (model, expected) in kinds.items():
        RustTokenizer(model).save(str(tmp_path / f"{name}.json"))
        assert unknown_id(Tokenizer(tmp_path / f"{name}.json", 64)) == expected, name


def test_bad_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown fallback") as caught:
        TrimVocabulary("unknown")  # type: ignore[arg-type]
    assert caught.value.where == "trim_vocabulary.fallback"
    with pytest.raises(LnmtError, match="min_count is below 1"):
        TrimVocabulary(min_count=0)


def test_an_empty_calibration_is_told(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="nothing to calibrate on"):
        TrimVocabulary().compress(load_model(bundle), workshop(bundle, tmp_path, train=[]))
