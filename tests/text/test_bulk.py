from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.text import bulk
from lnmt.text.bulk import BulkEncoder, Ragged
from lnmt.text.tokenizer import Tokenizer
from tests.tiny_bundle import WORDS, tiny_tokenizer

# Everything BERT's rules look at: white space of all kinds, marks, case, Chinese characters, special tokens.
# fmt: off
PIECES = (
    " ", "  ", "\t", "\n", "\xa0", "\u2003", "\x00", "\x1c", "\x7f", "\u200b", "\u0301", "é", "É", "İ", "Σ", "ς", "ß",
    "漢", "字", "한", "😀", "\ufffd", "'", ".", "-", "##a", "[SEP]", "[CLS]", "[", "]", "a", "B", "7", *WORDS[:6],
)
# fmt: on
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def bytes_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer, to which a space is a part of the word behind it."""
    from tokenizers import ByteLevelBPETokenizer

    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [" ".join(WORDS)], vocab_size=300, min_frequency=1, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    tokenizer.save(str(path))
    return path


def lists(rows: Ragged) -> list[list[int]]:
    return [row.tolist() for row in np.split(rows.values, np.cumsum(rows.lengths)[:-1])] if len(rows.lengths) else []


def column(texts: Sequence[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS, max_tokens=st.integers(3, 12))
def test_remembered_words_give_the_tokens_of_whole_texts(path: Path, texts: list[str], max_tokens: int) -> None:
    tokenizer = Tokenizer(path, max_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "FEW_NEW", 2.0)  # words are looked up, however many are new
        patch.setattr(bulk, "REMEMBERED", 8)  # and forgotten on the way
        encoder = BulkEncoder(tokenizer)
        for at in range(0, len(texts), 3):
            some = texts[at : at + 3]
            assert lists(encoder.texts(column(some))) == tokenizer.encode(some)


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, max_tokens=st.integers(3, 12), kind=st.sampled_from(["path", "bytes_path"]))
def test_words_give_their_tokens_and_where_each_begins(
    path: Path, bytes_path: Path, texts: list[str], max_tokens: int, kind: str
) -> None:
    tokenizer = Tokenizer({"path": path, "bytes_path": bytes_path}[kind], max_tokens)
    rows = [text.split() for text in texts]
    found, words = BulkEncoder(tokenizer).words(rows)
    tokens, starts = tokenizer.encode_words(rows)
    assert lists(found) == tokens
    expected: list[int] = []
    for row, begins, first in zip(tokens, starts, np.cumsum([0, *map(len, rows)]).tolist(), strict=False):
        places = {place: first + word for word, place in enumerate(begins) if place is not None}
        expected.extend(places.get(place, -1) for place in range(len(row)))
    assert words.tolist() == expected


def test_a_tokenizer_that_looks_beyond_spaces_reads_whole_texts(bytes_path: Path) -> None:
    tokenizer = Tokenizer(bytes_path, 6)
    texts = ["the film", " the  film ", "", "a\n\n the"] * 3
    assert lists(BulkEncoder(tokenizer).texts(column(texts))) == tokenizer.encode(texts)
    the, film = "the", " film"
    assert tokenizer.encode([the])[0] + tokenizer.encode([film])[0] == tokenizer.encode(["the film"])[0]
    assert tokenizer.encode(["film"]) != tokenizer.encode([film]), "words alone would be other tokens"


def test_an_added_token_with_a_space_is_found(path: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as RustTokenizer

    rust = RustTokenizer.from_file(str(path))
    rust.add_tokens(["good film"])
    rust.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", 8)
    texts = ["a good film"] * 4
    assert lists(BulkEncoder(tokenizer).texts(column(texts))) == tokenizer.encode(texts)
    assert len(tokenizer.encode(texts)[0]) == 4, "[CLS] a good-film [SEP]"


def test_documents_are_whole_and_end(bytes_path: Path) -> None:
    tokenizer = Tokenizer(bytes_path, 3)
    texts = ["the film and the book", "", "good"]
    found = lists(BulkEncoder(tokenizer).documents(column(texts)))
    whole = Tokenizer(bytes_path, 1000)
    assert found == [[*row, tokenizer.end_id] for row in whole.encode(texts)]
    assert len(found[0]) > 3, "not cut"
