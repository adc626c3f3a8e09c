from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lnmt.errors import LnmtError
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match=r"no tokenizer\.json") as caught:
        Tokenizer(tmp_path / "tokenizer.json", 8)
    assert caught.value.where == tmp_path / "tokenizer.json"
