from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lnmt.errors import LnmtError
from lnmt.files import sha256_file
from lnmt.text.tokenizer import Tokenizer
from tests.tiny_bundle import tiny_tokenizer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer(path)
    return path


def test_texts_are_cut_and_keep_their_special_tokens(path: Path) -> None:
    short, long = Tokenizer(path, 5).encode(["good film", "the " * 50])
    cls, sep = short[0], short[-1]
    assert (len(short), len(long)) == (4, 5)
    assert (long[0], long[-1]) == (cls, sep)
    assert Tokenizer(path, 64).encode([""]) == [[cls, sep]]
    assert Tokenizer(path, 64).encode([]) == []


@pytest.mark.parametrize(("length", "width"), [(1, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_widths_are_multiples_within_max_tokens(path: Path, length: int, width: int) -> None:
    batch = Tokenizer(path, 20).pad([[5] * length, [7]], 8)
    assert batch.input_ids.shape == batch.attention_mask.shape == (2, width)
    assert batch.attention_mask.sum(axis=1).tolist() == [length, 1]
    assert batch.input_ids[1].tolist() == [7] + [0] * (width - 1)
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64


def test_rows_may_be_arrays(path: Path) -> None:
    batch = Tokenizer(path, 20).pad([np.array([3, 4], dtype=np.int32)], 1)
    assert batch.input_ids.tolist() == [[3, 4]]


def test_padding_is_the_vocabularys_own(path: Path, tmp_path: Path) -> None:
    document = json.loads(path.read_text())
    document["model"]["vocab"] |= {"[PAD]": 1, "[UNK]": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", 8)
    assert tokenizer.pad([[5, 5], [7]], 2).input_ids.tolist() == [[5, 5], [7, 1]]


def test_the_pad_token_may_have_another_name(path: Path, tmp_path: Path) -> None:
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    del vocabulary["[PAD]"]
    (tmp_path / "none.json").write_text(json.dumps(document))
    vocabulary["<pad>"] = 0
    vocabulary["<pad>"], vocabulary["[UNK]"] = vocabulary["[UNK]"], vocabulary["<pad>"]
    (tmp_path / "other.json").write_text(json.dumps(document))
    assert Tokenizer(tmp_path / "other.json", 8).pad_id == 1
    assert Tokenizer(tmp_path / "none.json", 8).pad_id == 0


def test_the_vocabulary_counts_all_tokens(path: Path) -> None:
    assert Tokenizer(path, 8).vocabulary == len(json.loads(path.read_text())["model"]["vocab"])


def test_a_text_ends_with_the_tokenizers_own_token(path: Path, tmp_path: Path) -> None:
    document = json.loads(path.read_text())
    assert Tokenizer(path, 8).end_id == document["model"]["vocab"]["[SEP]"]
    document["model"]["vocab"] = {"[UNK]": 0, "a": 1}
    document["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(LnmtError, match="no token that ends a text") as caught:
        _ = Tokenizer(tmp_path / "tokenizer.json", 8).end_id
    assert caught.value.where == tmp_path / "tokenizer.json"


def test_each_word_says_where_it_begins(path: Path) -> None:
    tokenizer = Tokenizer(path, 7)
    rows, starts = tokenizer.encode_words([["good", "\x01", "xy-z", "film", "book"], []])
    assert rows == [tokenizer.encode(["good xy-z film"])[0], tokenizer.encode([""])[0]]
    assert (len(rows[0]), starts) == (7, [[1, None, 2, None, None], []]), "no token; cut off"


def test_the_digest_is_that_of_the_file(path: Path) -> None:
    assert Tokenizer(path, 8).digest == sha256_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match=r"no tokenizer\.json") as caught:
        Tokenizer(tmp_path / "tokenizer.json", 8)
    assert caught.value.where == tmp_path / "tokenizer.json"
