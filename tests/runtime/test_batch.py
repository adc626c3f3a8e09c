from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.errors import LnmtError, Transient, UnknownName
from lnmt.progress import Progress
from lnmt.runtime import batch
from lnmt.runtime.batch import BatchSummary, predict_file
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.rows import CsvRows, kind_of, merge_kinds, open_rows

ADDED = ["predicted_label", "score", "score_negative", "score_neutral", "score_positive", "error"]
ROOT = Path(__file__).parents[2]
QUIET = Progress(show=False)


def run(source: Path, target: Path, predictor: Predictor, **options: Any) -> BatchSummary:
    return predict_file(
        source, target, predictor, **{"text_column": "text", "batch_rows": 4, "progress": QUIET, **options}
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


TEXTS = [
    "good film",
    "a",
    "the plot was dull and not good",
    "bad",
    "fine , love it",
    "poor book",
    "hate",
    "price is okay",
]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    table = pa.table({"key": pa.array(range(len(TEXTS)), pa.int32()), "text": TEXTS, "tags": [["x", "y"]] * len(TEXTS)})
    pq.write_table(table, path, row_group_size=3)
    return path


def test_parquet_keeps_its_types_and_gains_answers(parquet: Path, tmp_path: Path, predictor: Predictor) -> None:
    target = tmp_path / "deep" / "out.parquet"
    assert run(parquet, target, predictor) == BatchSummary(rows=8, errors=0, resumed=0)
    found = pq.read_table(target)
    assert found.schema.names == ["key", "text", "tags", *ADDED]
    assert found.select(["key", "text", "tags"]).equals(pq.read_table(parquet))
    expected = predictor.predict(TEXTS)
    assert found["predicted_label"].to_pylist() == [entry.label for entry in expected]
    assert len(set(found["predicted_label"].to_pylist())) > 1
    for row, entry in zip(found.to_pylist(), expected, strict=True):
        assert row["score"] == pytest.approx(entry.scores[entry.label], abs=1e-5)
        assert {name: row[f"score_{name}"] for name in entry.scores} == pytest.approx(entry.scores, abs=1e-5)
        assert row["error"] is None
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.parquet"]


def test_parquet_to_csv_and_jsonl(parquet: Path, tmp_path: Path, predictor: Predictor) -> None:
    run(parquet, tmp_path / "out.csv", predictor)
    run(parquet, tmp_path / "out.jsonl", predictor)
    from_csv, from_json = read_csv(tmp_path / "out.csv"), lines(tmp_path / "out.jsonl")
    assert [row["text"] for row in from_csv] == [row["text"] for row in from_json] == TEXTS
    assert (from_csv[1]["key"], from_csv[1]["tags"], from_csv[1]["error"]) == ("1", '["x", "y"]', "")
    assert (from_json[1]["key"], from_json[1]["tags"], from_json[1]["error"]) == (1, ["x", "y"], None)
    assert [float(row["score"]) for row in from_csv] == [row["score"] for row in from_json]


def test_bad_rows_of_a_csv_hurt_no_other(tmp_path: Path, predictor: Predictor) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(
        b'\xef\xbb\xbfid,text\n1,"good, and\nwith a second line"\n2,\n3,one,too many\n\n4\n5,caf\xe9\n6,caf\xc3\xa9\n'
    )
    assert run(source, target, predictor) == BatchSummary(rows=6, errors=4, resumed=0)
    found = read_csv(target)
    assert [row["error"] for row in found] == [
        "",
        "no text: empty",
        "the line has 3 fields, the header 2",
        "the line has 1 fields, the header 2",
        "not UTF-8",
        "",
    ]
    assert [row["text"] for row in found] == ["good, and\nwith a second line", "", "one", "", "caf\ufffd", "café"]
    good = predictor.predict(["good, and\nwith a second line", "café"])
    assert [row["predicted_label"] for row in found] == [good[0].label, "", "", "", "", good[1].label]
    assert found[1]["score"] == found[1]["score_neutral"] == ""


def test_bad_lines_of_json_hurt_no_other(tmp_path: Path, predictor: Predictor) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        '{"text": "good", "n": 1, "any": {"deep": [1]}}',
        '{"text": 7, "n": 2.5, "any": "x"}',
        "{broken",
        "[1, 2]",
        '{"text": null, "new": true}',
        "",
        '{"text": "caf\\ud800"}',
        '{"text": "bad", "n": null, "any": 99999999999999999999}',
    ]
    source.write_text("\n".join(rows))
    assert run(source, target, predictor) == BatchSummary(rows=7, errors=5, resumed=0)
    found = lines(target)
    assert [row["error"] for row in found][:2] == [None, "not text but int"]
    assert found[2]["error"].startswith("not JSON: ")
    assert [row["error"] for row in found][3:] == [
        "not a JSON object but json",
        "no text: null",
        "not valid Unicode: a lone surrogate",
        None,
    ]
    assert [row["any"] for row in found] == [{"deep": [1]}, "x", None, None, None, None, 99999999999999999999]
    assert [row["n"] for row in found] == [1.0, 2.5, None, None, None, None, None]
    assert [row["new"] for row in found] == [None, None, None, None, True, None, None]
    assert found[0]["predicted_label"] == predictor.predict(["good"])[0].label
    for name in ("out.csv", "out.parquet"):
        run(source, tmp_path / name, predictor)
    expected = ["good", "7", None, None, None, "caf\ufffd", "bad"]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["text"].to_pylist() == expected
    assert table["any"].to_pylist() == ['{"deep": [1]}', "x", None, None, None, None, "99999999999999999999"]
    assert [row["text"] or None for row in read_csv(tmp_path / "out.csv")] == expected


def test_killed_it_goes_on_where_it_was(parquet: Path, tmp_path: Path, predictor: Predictor) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from lnmt.bundles import Bundle
from lnmt.progress import Progress
from lnmt.runtime import batch
from lnmt.runtime.predictor import Predictor
made, original = 0, batch.write_bytes
def write(path, data):
    global made
    original(path, data)
    made += 1
    if made == 2:
        os.kill(os.getpid(), signal.SIGKILL)
batch.write_bytes = write
predictor = Predictor.open(Bundle.open(Path(sys.argv[1])), threads=1)
source, target = Path(sys.argv[2]), Path(sys.argv[3])
batch.predict_file(source, target, predictor, text_column="text", batch_rows=3, progress=Progress())
"""
    target, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    arguments = [str(predictor.bundle.path), str(parquet), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert run(parquet, target, predictor, batch_rows=3) == BatchSummary(rows=8, errors=0, resumed=6)
    run(parquet, whole, predictor, batch_rows=3)
    assert pq.read_table(target).select(["key", *ADDED[:1]]) == pq.read_table(whole).select(["key", *ADDED[:1]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet", "whole.parquet"]


class Interrupted(Exception):
    pass


@pytest.fixture
def unfinished(parquet: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A target of which one part of four rows was made before something stopped the run."""

    original = batch._answer
    calls = list[None]()

    def first_only(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) > 1:
            raise Interrupted
        return original(*arguments)

    target = tmp_path / "out.parquet"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(batch, "_answer", first_only)
        run(parquet, target, predictor)
    assert not target.exists()
    return target


def test_the_same_run_is_resumed(parquet: Path, unfinished: Path, predictor: Predictor) -> None:
    assert run(parquet, unfinished, predictor) == BatchSummary(rows=8, errors=0, resumed=4)


def test_another_source_or_another_chunk_size_starts_anew(
    parquet: Path, unfinished: Path, predictor: Predictor
) -> None:
    assert run(parquet, unfinished, predictor, batch_rows=5).resumed == 0
    assert pq.read_table(unfinished).num_rows == 8


def test_a_changed_source_starts_anew(parquet: Path, unfinished: Path, predictor: Predictor) -> None:
    pq.write_table(pq.read_table(parquet).slice(1), parquet)
    assert run(parquet, unfinished, predictor) == BatchSummary(rows=7, errors=0, resumed=0)


def test_a_row_that_the_engine_refuses_costs_no_other(
    parquet: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predictor.outputs

    def refuse(texts: list[str], batch_size: int = 32) -> Any:
        if "bad" in texts:
            raise LnmtError("answers are not finite")
        return original(texts, batch_size)

    monkeypatch.setattr(predictor, "outputs", refuse)
    assert run(parquet, tmp_path / "out.csv", predictor).errors == 1
    found = read_csv(tmp_path / "out.csv")
    assert [(row["text"], row["error"]) for row in found if row["error"]] == [("bad", "answers are not finite")]


def test_an_engine_that_refuses_all_is_a_failure(
    parquet: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LnmtError("answers are not finite")

    monkeypatch.setattr(predictor, "outputs", refuse)
    with pytest.raises(LnmtError, match="not finite"):
        run(parquet, tmp_path / "out.csv", predictor)
    assert not (tmp_path / "out.csv").exists()


def test_a_second_run_at_the_same_time_is_refused(parquet: Path, tmp_path: Path, predictor: Predictor) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".out.csv.lock"), pytest.raises(Transient, match="another process"):
        run(parquet, tmp_path / "out.csv", predictor)


def test_a_header_alone_gives_columns_and_no_rows(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in.csv").write_text("text\n")
    assert run(tmp_path / "in.csv", tmp_path / "out.csv", predictor) == BatchSummary(0, 0, 0)
    assert (tmp_path / "out.csv").read_text() == ",".join(["text", *ADDED]) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("in.csv", "", "the file is empty"),
        ("in.csv", "text,text\n", "two columns have one name"),
        ("in.csv", "other\n1\n", "unknown column 'text'"),
        ("in.csv", "text,score\n1,2\n", "already has a column 'score'"),
        ("in.jsonl", "", "no JSON object"),
        ("in.jsonl", "{\n[1]\n", "no JSON object"),
        ("in.parquet", "PAR1 not really", "not Parquet, or damaged"),
        ("in.xlsx", "x", r"unknown kind of file(?s:.*)value: \.xlsx(?s:.*)\.csv, \.jsonl"),
    ],
)
def test_a_source_that_is_not_what_it_says(
    tmp_path: Path, predictor: Predictor, name: str, content: str, match: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(LnmtError, match=match):
        run(tmp_path / name, tmp_path / "out.csv", predictor)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unclosed_quote_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnmt.runtime.rows.MAX_FIELD", 100)
    (tmp_path / "in.csv").write_text('text\nfine\n"never closed\n' + "more\n" * 50)
    before = csv.field_size_limit()
    with pytest.raises(LnmtError, match=r"not CSV: field larger than field limit(?s:.*)line"):
        CsvRows(tmp_path / "in.csv")
    assert csv.field_size_limit() == before


def test_a_missing_source_a_wrong_target_and_the_same_file(parquet: Path, predictor: Predictor) -> None:
    with pytest.raises(LnmtError, match="no such file"):
        open_rows(parquet.with_name("none.csv"))
    with pytest.raises(LnmtError, match="unknown kind of file to write"):
        run(parquet, parquet.with_name("out.txt"), predictor)
    with pytest.raises(LnmtError, match="source and target are one file"):
        run(parquet, parquet, predictor)
    with pytest.raises(UnknownName, match="did you mean 'text'"):
        run(parquet, parquet.with_name("out.csv"), predictor, text_column="txt")
    with pytest.raises(LnmtError, match="column 'key' holds no text"):
        run(parquet, parquet.with_name("out.csv"), predictor, text_column="key")


def test_a_text_of_a_megabyte_is_cut_not_refused(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "good " * 200_000 + "\nbad\n")
    assert run(tmp_path / "in.csv", tmp_path / "out.jsonl", predictor) == BatchSummary(2, 0, 0)
    assert lines(tmp_path / "out.jsonl")[0]["predicted_label"] == predictor.predict(["good " * 100])[0].label


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [("null", "int", "int"), ("int", "null", "int"), ("int", "float", "float"), ("bool", "int", "json"),
     ("string", "float", "json"), ("string", "string", "string")],
)  # fmt: skip
def test_kinds_of_a_column(one: str, other: str, merged: str) -> None:
    assert merge_kinds(one, other) == merged


def test_kinds_of_values() -> None:
    values: list[object] = [None, True, 1, 2**63, 1.5, "x", [], {}]
    assert [kind_of(value) for value in values] == ["null", "bool", "int", "json", "float", "string", "json", "json"]
