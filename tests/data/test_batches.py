from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lnmt.data import token_shards
from lnmt.data.batches import Examples, load_examples
from lnmt.data.tables import ShardWriter, table_schema
from lnmt.errors import LnmtError, UnknownName
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import IGNORED, Task
from tests.tiny_bundle import LABELS, WORDS, tiny_tokenizer

Rows = Sequence[tuple[str, str | None, str | None]]  # id, text, label
TAGS = ("O", "B-X", "I-X")


class Notes(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(show=False)
        self.notes: list[str] = []

    def note(self, message: str, **values: Any) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer(path)
    return path


def write_table(directory: Path, rows: Rows, rows_per_file: int = 1000) -> Path:
    schema = table_schema(())
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    with ShardWriter(directory, schema, rows_per_file) as writer:
        writer.write(pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema))
    return directory


def sentences(count: int) -> Rows:
    random = np.random.default_rng(0)
    words = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(count)]
    return [(f"r{place}", text, LABELS[place % 3]) for place, text in enumerate(words)]


def load(directory: Path, path: Path, **changes: Any) -> Examples:
    given: dict[str, Any] = {
        "task": "text-classification",
        "labels": LABELS,
        "tokenizer": Tokenizer(path, 6),
        "progress": Progress(show=False),
        "cache": directory.parent / "cache",
    }
    return load_examples(directory, **{**given, **changes})


def test_a_split_is_read_in_its_order(tmp_path: Path, path: Path) -> None:
    rows = [("a", "good film", "positive"), ("b", "", "neutral"), ("c", "the the the the the", "negative")]
    examples = load(write_table(tmp_path / "train", rows), path)
    assert (len(examples), list(examples.ids), examples.labels.tolist()) == (3, ["a", "b", "c"], [2, 1, 0])
    assert (examples.lengths.tolist(), examples.max_length) == ([4, 2, 6], 6), "cut, special tokens included"
    assert [row.tolist() for row in examples.rows(np.arange(3))] == Tokenizer(path, 6).encode(
        [r[1] or "" for r in rows]
    )
    assert (examples.tokens.dtype.name, examples.starts.dtype.name, examples.labels.dtype.name) == (
        "int32", "int64", "int64",
    )  # fmt: skip


def test_a_second_call_finds_the_files(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_table(tmp_path / "train", sentences(50))
    first = load(directory, path)

    def fail(*_: Any) -> None:
        raise AssertionError("tokenised again")

    with monkeypatch.context() as patch:
        patch.setattr("lnmt.text.bulk.BulkEncoder.texts", fail)
        again = load(directory, path)
        assert again.digest == first.digest
        assert again.tokens.tolist() == first.tokens.tolist()
        assert again.names(np.array([3, 1])) == ("r3", "r1")
        with pytest.raises(AssertionError, match="tokenised again"):
            load(directory, path, tokenizer=Tokenizer(path, 5))
    others: list[dict[str, Any]] = [
        {"tokenizer": Tokenizer(path, 5)},
        {"labels": (*LABELS, "mixed")},
        {"task": "multi-label-classification"},
    ]
    digests = {load(directory, path, **other).digest for other in others}
    write_table(directory, sentences(51))
    assert len(digests | {first.digest, load(directory, path).digest}) == 5


def test_tokens_stay_in_the_file(tmp_path: Path, path: Path) -> None:
    examples = load(write_table(tmp_path / "train", sentences(50)), path)
    assert not examples.tokens.flags.owndata
    assert np.shares_memory(examples.tokens, examples.tokens), "not copied when it is asked for"
    row = examples.rows(np.array([7]))[0]
    assert np.shares_memory(row, examples.tokens), "a row is a view"
    assert ".arrow" in Path("/proc/self/maps").read_text()
    with pytest.raises(ValueError, match="read-only"):
        row[0] = 1


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "text-generation"])
def test_any_number_of_processes_writes_the_same_files(tmp_path: Path, path: Path, task: Task) -> None:
    rows = [(name, text, " ".join("O" for _ in str(text).split())) for name, text, _ in sentences(90)]
    if task == "text-classification":
        rows = list(sentences(90))  # type: ignore[arg-type]
    directory = write_table(tmp_path / "train", rows, rows_per_file=20)
    labels = TAGS if task == "token-classification" else LABELS
    found = [load(directory, path, task=task, labels=labels, cache=tmp_path / f"{n}", processes=n) for n in (1, 2)]
    files = [
        {file.name: file.read_bytes() for file in (tmp_path / f"{n}").rglob("*") if file.suffix in {".arrow", ".json"}}
        for n in (1, 2)
    ]
    assert len(files[0]) == 6, "one for each file of the table, and the index"
    assert files[0] == files[1]
    whole = load(write_table(tmp_path / "whole", rows), path, task=task, labels=labels)
    for examples in found:
        assert examples.tokens.tolist() == whole.tokens.tolist()
        assert examples.starts.tolist() == whole.starts.tolist()
        assert examples.labels.tolist() == whole.labels.tolist()
        assert list(examples.ids) == list(whole.ids)
        places = np.array([3, len(whole) - 1, 0])
        for one, other in zip(examples.rows(places), whole.rows(places), strict=True):
            assert one.tolist() == other.tolist()
        assert examples.names(places) == whole.names(places)


def test_a_file_ends_where_it_holds_enough(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "READ_ROWS", 10)
    monkeypatch.setattr(token_shards, "SHARD_TOKENS", 60)
    examples = load(write_table(tmp_path / "train", sentences(50)), path)
    names = sorted(file.name for file in (tmp_path / "cache").rglob("*.arrow"))
    assert names[0] == "part-00000-000.arrow"
    assert len(names) > 2
    rows = [str(text) for _, text, _ in sentences(50)]
    assert [row.tolist() for row in examples.rows(np.arange(50))] == Tokenizer(path, 6).encode(rows)


def damage_byte(entry: Path) -> None:
    file = next(entry.glob("*.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_file(entry: Path) -> None:
    file = next(entry.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-8])


def lose_file(entry: Path) -> None:
    next(entry.glob("*.arrow")).unlink()


def lose_index(entry: Path) -> None:
    (entry / "shards.json").unlink()


def spoil_index(entry: Path) -> None:
    (entry / "shards.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (damage_byte, "the bytes of part-00000-000.arrow have changed"),
        (cut_file, r"part-00000-000.arrow has \d+ bytes, not \d+"),
        (lose_file, "part-00000-000.arrow is missing"),
        (lose_index, "shards.json cannot be read"),
        (spoil_index, "shards.json cannot be read"),
    ],
)
def test_a_damaged_file_is_made_again(tmp_path: Path, path: Path, harm: Callable[[Path], None], what: str) -> None:
    directory = write_table(tmp_path / "train", sentences(30))
    before = load(directory, path)
    tokens = np.array(before.tokens)
    entry = next(one for one in (tmp_path / "cache").iterdir() if one.is_dir())
    harm(entry)
    notes = Notes()
    again = load(directory, path, progress=notes)
    assert len(notes.notes) == 1
    assert re.match(rf"tokenises train again: {what}", notes.notes[0])
    assert again.tokens.tolist() == tokens.tolist()
    assert token_shards.find_damage(entry) is None


def test_an_error_leaves_nothing_half_made(tmp_path: Path, path: Path) -> None:
    rows = [*sentences(30), ("bad", "x", "positve")]
    directory = write_table(tmp_path / "train", rows, rows_per_file=10)
    with pytest.raises(UnknownName):
        load(directory, path)
    assert [one.name for one in (tmp_path / "cache").iterdir() if one.is_dir()] == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_label_outside_the_set_names_its_row(tmp_path: Path, path: Path, processes: int) -> None:
    rows = [*sentences(30), ("bad", "y", "positve"), ("worse", "y", "x")]
    directory = write_table(tmp_path / "train", rows, rows_per_file=10)
    with pytest.raises(UnknownName, match="unknown label 'positve'") as caught:
        load(directory, path, processes=processes)
    assert (caught.value.where, caught.value.fix) == (f"{directory}, row bad", "did you mean 'positive'?")


@pytest.mark.parametrize(
    ("row", "message", "task"),
    [
        (("b", "y", None), "a row has no label", "text-classification"),
        (("b", None, "positive"), "a row has no text", "text-classification"),
        (("b", "good film", "O"), "a row has 2 words and 1 tags", "token-classification"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named(
    tmp_path: Path, path: Path, row: tuple[str, str | None, str | None], message: str, task: Task
) -> None:
    first = ("a", "x", "positive" if task == "text-classification" else "O")
    directory = write_table(tmp_path / "train", [first, row])
    with pytest.raises(LnmtError, match=re.escape(message)) as caught:
        load(directory, path, task=task, labels=LABELS if task == "text-classification" else TAGS)
    assert str(caught.value.value).startswith("row b")
    assert caught.value.where == directory


def test_a_row_without_tokens_is_named(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    rust = RustTokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    rust.pre_tokenizer = WhitespaceSplit()
    rust.save(str(tmp_path / "tokenizer.json"))
    directory = write_table(tmp_path / "train", [("a", "a b", "neutral"), ("b", " ", "neutral")])
    with pytest.raises(LnmtError, match="a row has no tokens") as caught:
        load(directory, tmp_path / "tokenizer.json")
    assert caught.value.value == "row b"


@pytest.mark.parametrize(
    ("task", "shape", "kind"),
    [
        ("text-classification", (0,), "int64"),
        ("multi-label-classification", (0, 3), "float32"),
        ("text-regression", (0,), "float32"),
        ("token-classification", (0,), "int64"),
        ("text-generation", (0,), "int64"),
    ],
)
def test_an_empty_split_has_no_rows(tmp_path: Path, path: Path, task: Task, shape: tuple[int, ...], kind: str) -> None:
    examples = load(write_table(tmp_path / "train", []), path, task=task)
    assert (len(examples), examples.starts.tolist(), list(examples.ids)) == (0, [0], [])
    assert (examples.labels.shape, examples.labels.dtype.name, examples.max_length) == (shape, kind, 0)


def test_several_labels_a_row_are_a_row_of_ones(tmp_path: Path, path: Path) -> None:
    rows = [("a", "x", "positive|negative"), ("b", "y", ""), ("c", "z", '["neutral"]')]
    examples = load(write_table(tmp_path / "train", rows, 2), path, task="multi-label-classification")
    assert examples.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert examples.labels.dtype == np.float32


def test_numbers_are_labels(tmp_path: Path, path: Path) -> None:
    rows = [("a", "x", "-1.5"), ("b", "y", "2")]
    examples = load(write_table(tmp_path / "train", rows), path, task="text-regression", labels=())
    assert (examples.labels.tolist(), examples.labels.dtype.name) == ([-1.5, 2.0], "float32")


def test_the_first_token_of_a_word_has_its_tag(tmp_path: Path, path: Path) -> None:
    # [CLS] x ##y - z film [SEP]; then a row that is cut to six tokens; then a word without a token
    rows = [("a", "xy-z film", "B-X O"), ("b", "the the the the the", "B-X I-X I-X O O"), ("c", "\x01 good", "B-X I-X")]
    directory = write_table(tmp_path / "train", rows)
    examples = load(directory, path, task="token-classification", labels=TAGS, tokenizer=Tokenizer(path, 7))
    none = IGNORED
    found = [tags.tolist() for tags in examples.tags(np.arange(3))]
    assert found == [[none, 1, none, none, none, 0, none], [none, 1, 2, 2, 0, 0, none], [none, 2, none]]
    assert len(examples.labels) == examples.starts[-1] == len(examples.tokens)
    short = load(directory, path, task="token-classification", labels=TAGS, tokenizer=Tokenizer(path, 4))
    assert short.tags(np.array([1]))[0].tolist() == [none, 1, 2, none]


def test_documents_are_joined_and_cut_into_blocks(tmp_path: Path, path: Path) -> None:
    rows = [("a", "the film", None), ("b", "", None), ("c", "good good good good", None)]
    directory = write_table(tmp_path / "train", rows)
    examples = load(directory, path, task="text-generation", labels=(), tokenizer=Tokenizer(path, 4))
    tokenizer = Tokenizer(path, 99)
    the, film, good = (tokenizer.encode([word])[0][1] for word in ("the", "film", "good"))
    end = tokenizer.end_id
    found = [row.tolist() for row in examples.rows(np.arange(len(examples)))]
    assert found == [[the, film, end, end], [good, good, good, good]], "a last block of one token predicts nothing"
    assert list(examples.ids) == ["a@0", "c@0"]
    assert (examples.lengths.tolist(), examples.labels.tolist()) == ([4, 4], [])
    wider = load(directory, path, task="text-generation", labels=(), tokenizer=Tokenizer(path, 5))
    assert (wider.lengths.tolist(), list(wider.ids)) == ([5, 4], ["a@0", "c@1"])


def test_examples_of_arrays_have_a_digest_of_their_content() -> None:
    def make(label: int, name: str) -> Examples:
        return Examples(np.array([1, 2], np.int32), np.array([0, 1, 2]), np.array([0, label]), ["a", name])

    assert make(1, "b").digest == make(1, "b").digest
    assert len({make(1, "b").digest, make(2, "b").digest, make(1, "c").digest}) == 3


def test_a_process_ended_from_outside_is_told(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    def die(*_: Any) -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(token_shards, "_tokenise", die)
    directory = write_table(tmp_path / "train", sentences(30), rows_per_file=10)
    with pytest.raises(LnmtError, match="a process that tokenised was ended from outside"):
        load(directory, path, processes=2)


def test_a_small_split_starts_no_process(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(token_shards, "ProcessPoolExecutor", none)
    directory = write_table(tmp_path / "train", sentences(30), rows_per_file=10)
    assert len(load(directory, path)) == 30
    monkeypatch.setattr(token_shards, "SMALL", 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(AssertionError, match="a pool was started"):
        load(directory, path, cache=tmp_path / "other")
