from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lnmt.data.keys import text_key
from lnmt.data.process import process
from lnmt.data.table_processors import TABLE_PROCESSORS, Augment, Bench, Deduplicate, Rows, TableProcessor
from lnmt.data.tables import BATCH_ROWS, table_schema
from lnmt.data.tally import MAX_SLICE_VALUES
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import directory_digest, read_json
from lnmt.text.processors import PROCESSORS, BaseProcessor
from lnmt.types import ID, TEXT
from tests.data.small_tables import NOUNS, Row, params, read_table, rows, run_process, stage_io, write_validated

DEFAULT: list[dict[str, Any]] = [
    {"name": "unescape"},
    {"name": "normalise", "form": "NFC"},
    {"name": "whitespace"},
    {"name": "filter", "min_characters": 2},
    {"name": "deduplicate"},
]
AUGMENT = {"name": "augment", "share": 0.5, "drop_share": 0.2, "swap_share": 0.2, "seed": 1}


def splits(root: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_table(root / "data/processed" / name) for name in ("train", "validation", "test", "holdout")}


def all_rows(root: Path) -> list[dict[str, Any]]:
    return [row for found in splits(root).values() for row in found]


def summary(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / "reports/process/summary.json")
    return found


def test_splits_manifest_and_summary(tmp_path: Path) -> None:
    entries = rows(300)
    entries[0]["text"] = "  Fish &amp; chips &eacute;  "
    entries[1]["text"] = "x"
    entries[2]["text"] = "FISH & CHIPS, E\u0301!"
    entries[2]["label"] = "positive"
    run_process(tmp_path, entries, processors=DEFAULT, holdout={"domain": ["film"]})

    found = splits(tmp_path)
    manifest = read_json(tmp_path / "data/processed/manifest.json")
    assert manifest == {
        "task": "text-classification",
        "labels": ["negative", "neutral", "positive"],
        "slices": ["domain"],
        "processors": DEFAULT[:4],
        "rows": {name: len(part) for name, part in found.items()},
    }
    assert sum(manifest["rows"].values()) == 298
    assert {row["domain"] for row in found["holdout"]} == {"film"}
    assert len(found["holdout"]) == 149
    assert {row["domain"] for name in ("train", "validation", "test") for row in found[name]} == {"product"}
    assert [row["text"] for row in all_rows(tmp_path) if row["id"] == "r0"] == ["Fish & chips é"]

    report = summary(tmp_path)
    assert report["rows"] == {"in": 300, "out": 298}
    assert report["processors"] == [
        {"name": "unescape", "dropped": 0},
        {"name": "normalise", "dropped": 0},
        {"name": "whitespace", "dropped": 0},
        {"name": "filter", "dropped": 1},
        {"name": "deduplicate", "dropped": 1, "conflicting_labels": 1},
    ]
    assert report["splits"]["holdout"]["slices"] == {"domain": {"film": 149}}
    assert sum(report["splits"]["test"]["labels"].values()) == len(found["test"])
    assert report["wordings_also_in_holdout"] == 0
    assert not (tmp_path / ".lnmt/work/process").exists()


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        run_process(tmp_path / name, rows(200), processors=[*DEFAULT, AUGMENT])
        digests.append(directory_digest(tmp_path / name / "data/processed"))
    assert digests[0] == digests[1]


def test_added_rows_move_no_old_row_and_change_no_copy(tmp_path: Path) -> None:
    where = []
    for name, entries in {"before": rows(200), "after": [*rows(200), *rows(200, start=200)]}.items():
        run_process(tmp_path / name, entries, processors=[*DEFAULT, AUGMENT])
        where.append(
            {(row["id"], row["text"]): split for split, part in splits(tmp_path / name).items() for row in part}
        )
    before, after = where
    assert before.items() <= after.items()


def test_deduplicate_acts_at_its_place(tmp_path: Path) -> None:
    entries: Sequence[Row] = [*rows(200), {**rows(1)[0], "id": "last", "text": f"  {rows(1)[0]['text']}??"}]
    run_process(tmp_path, entries, processors=[{"name": "deduplicate"}, {"name": "whitespace"}])
    assert [row["id"] for row in all_rows(tmp_path) if row["id"] in ("r0", "last")] == ["r0"]
    assert summary(tmp_path)["processors"][0] == {"name": "deduplicate", "dropped": 1, "conflicting_labels": 0}


def test_without_deduplicate_copies_stay_in_one_split(tmp_path: Path) -> None:
    copies = [{**row, "id": f"{row['id']}-again"} for row in rows(150)]
    run_process(tmp_path, [*rows(150), *copies], processors=[])
    for part in splits(tmp_path).values():
        ids = {row["id"] for row in part}
        assert {f"{name}-again" for name in ids if not name.endswith("-again")} <= ids


def test_augment_adds_to_training_alone(tmp_path: Path) -> None:
    plain, more = tmp_path / "plain", tmp_path / "more"
    run_process(plain, rows(300), processors=DEFAULT)
    run_process(more, rows(300), processors=[*DEFAULT, AUGMENT])
    one, two = splits(plain), splits(more)
    assert (one["validation"], one["test"]) == (two["validation"], two["test"])
    added = [row for row in two["train"] if row["id"].endswith("#augmented")]
    assert [row for row in two["train"] if row not in added] == one["train"]
    by_id = {row["id"]: row for row in one["train"]}
    assert 0.4 < len(added) / len(one["train"]) < 0.6
    for row in added:
        origin = by_id[row["id"].removesuffix("#augmented")]
        assert (row["label"], row["domain"]) == (origin["label"], origin["domain"])
        assert row["text"] != origin["text"]
        assert set(row["text"].split()) <= set(origin["text"].split())
    assert summary(more)["processors"][-1] == {"name": "augment", "added": len(added)}
    assert {plugin["name"] for plugin in read_json(more / "data/processed/manifest.json")["processors"]} == {
        "unescape",
        "normalise",
        "whitespace",
        "filter",
    }


def test_augment_draws_again_where_a_copy_would_not_belong() -> None:
    augment = Augment(share=1, drop_share=0.5, swap_share=0, seed=3)
    text = "one two three four five six"
    first = augment.alter("id", text, lambda altered: True)
    assert first is not None
    second = augment.alter("id", text, lambda altered: altered != first)
    assert second not in (None, first)
    assert augment.alter("id", text, lambda altered: False) is None
    assert Augment(share=1, drop_share=0, swap_share=0, seed=3).alter("id", text, lambda altered: True) is None


def test_an_unknown_processor_is_looked_up_in_both_tables(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'deduplicate'") as caught:
        run_process(tmp_path, rows(10), processors=[{"name": "whitespace"}, {"name": "dedupicate"}])
    assert caught.value.where == "params.yaml: process.processors[1]"
    assert str(caught.value.allowed).split(", ")[:4] == ["augment", "deduplicate", "filter", "normalise"]
    with pytest.raises(UnknownName, match="did you mean 'unescape'"):
        run_process(tmp_path, rows(10), processors=[{"name": "unescpe"}])


def test_an_unknown_option_of_a_table_processor(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'drop_share'"):
        run_process(tmp_path, rows(10), processors=[{**AUGMENT, "drop_shar": 0.1}])
    with pytest.raises(LnmtError, match=r"'augment' cannot be made: share is 2; it must be in 0…1"):
        run_process(tmp_path, rows(10), processors=[{**AUGMENT, "share": 2}])


def test_training_only_processors_come_last(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="'whitespace' comes after 'augment'"):
        run_process(tmp_path, rows(10), processors=[AUGMENT, {"name": "whitespace"}])


def test_a_name_in_both_tables_is_refused(tmp_path: Path) -> None:
    @PROCESSORS.register("test_twice")
    class Text(BaseProcessor):
        pass

    @TABLE_PROCESSORS.register("test_twice")
    class Whole(TableProcessor):
        pass

    with pytest.raises(LnmtError, match="'test_twice' is registered as a text and as a table processor"):
        run_process(tmp_path, rows(10), processors=[{"name": "test_twice"}])


def divide(text: str) -> str:
    return str(1 // (len(text) - 1))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (divide, "ZeroDivisionError"),
        (lambda text: None if text == "x" else text, "it gave NoneType, not str"),
        (lambda text: "\ud800" if text == "x" else text, "UnicodeEncodeError"),
    ],
)
def test_a_failing_plugin_names_the_row(tmp_path: Path, act: Callable[[str], str], message: str) -> None:
    class Failing(BaseProcessor):
        def process(self, data: str) -> str:
            return act(data)

    name = f"test_failing_{message.split()[0].lower()}"
    Failing.__qualname__ = name
    PROCESSORS.register(name)(Failing)
    entries = rows(20)
    entries[7]["text"] = "x"
    with pytest.raises(LnmtError, match=message) as caught:
        run_process(tmp_path, entries, processors=[{"name": name}])
    assert caught.value.value == "row 'r7': 'x'"


def test_a_table_processor_may_not_change_columns(tmp_path: Path) -> None:
    @TABLE_PROCESSORS.register("test_drops_a_column")
    class Drops(TableProcessor):
        def run(self, rows: Rows, bench: Bench) -> Rows:
            for batch in rows:
                yield batch.drop_columns([ID])

    with pytest.raises(LnmtError, match="'test_drops_a_column' gave other columns"):
        run_process(tmp_path, rows(20), processors=[{"name": "test_drops_a_column"}])


def test_a_leak_from_a_plugin_is_found(tmp_path: Path) -> None:
    run_process(tmp_path / "clean", rows(100), processors=[])
    stolen = splits(tmp_path / "clean")["test"][0]["text"]

    @TABLE_PROCESSORS.register("test_leaks")
    class Leaks(TableProcessor):
        train_only = True

        def run(self, rows: Rows, bench: Bench) -> Rows:
            for batch in rows:
                texts = pa.array([stolen.upper(), *batch.column(TEXT).to_pylist()[1:]])
                yield batch.set_column(1, bench.schema.field(TEXT), texts)

    with pytest.raises(LnmtError, match="stand in more than one of train, validation and test") as caught:
        run_process(tmp_path / "leaky", rows(100), processors=[{"name": "test_leaks"}])
    assert stolen.upper() in str(caught.value.value)
    assert not (tmp_path / "leaky/data/processed").exists()


def test_a_slice_that_lost_all_rows(tmp_path: Path) -> None:
    entries = rows(100)
    for row in entries[1::2]:
        row["text"] = "x"
    with pytest.raises(LnmtError, match="no row of the slice domain=film is left") as caught:
        run_process(tmp_path, entries, processors=DEFAULT)
    assert caught.value.value == "50 rows before, 0 after"


def test_a_split_without_a_label(tmp_path: Path) -> None:
    entries = rows(100)
    for row in entries[3:]:
        row["label"] = "negative" if row["label"] == "positive" else row["label"]
    with pytest.raises(LnmtError, match="split has no row labelled positive") as caught:
        run_process(tmp_path, entries, processors=DEFAULT)
    assert caught.value.where == "params.yaml: process.split"


def test_everything_filtered(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="no row of the slice domain=film is left"):
        run_process(tmp_path, rows(30), processors=[{"name": "filter", "min_characters": 1000}])


def test_a_slice_column_of_ids_is_refused(tmp_path: Path) -> None:
    entries = [{**row, "domain": row["id"]} for row in rows(MAX_SLICE_VALUES + 1)]
    with pytest.raises(LnmtError, match="slice column 'domain' has too many values"):
        run_process(tmp_path, entries, processors=DEFAULT)


def test_a_failed_run_leaves_the_earlier_splits(tmp_path: Path) -> None:
    run_process(tmp_path, rows(200), processors=DEFAULT)
    before = directory_digest(tmp_path / "data/processed")
    with pytest.raises(LnmtError, match="no row"):
        run_process(tmp_path, rows(3), processors=DEFAULT)
    assert directory_digest(tmp_path / "data/processed") == before
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"processed", "validated"}
    assert not (tmp_path / ".lnmt/work/process").exists()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_validated(tmp_path, rows(3000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # writing more fails as on a full disk, with EFBIG
    try:
        with pytest.raises(LnmtError, match="cannot write: File too large") as caught:
            process(params(process={"processors": DEFAULT}), stage_io(tmp_path, "process"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free space" in str(caught.value.fix)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"validated"}


def test_a_row_without_a_slice_value_is_kept(tmp_path: Path) -> None:
    entries = [{**row, "domain": None} for row in rows(100)]
    run_process(tmp_path, entries, processors=DEFAULT)
    assert len(all_rows(tmp_path)) == 100
    assert summary(tmp_path)["splits"]["train"]["slices"]["domain"].keys() == {"(none)"}


def test_no_wording_in_two_splits(tmp_path: Path) -> None:
    entries = [{**row, "text": f"word{place % 50}{'!' * (place % 3)}"} for place, row in enumerate(rows(300))]
    run_process(tmp_path, entries, processors=[{**AUGMENT, "share": 1, "drop_share": 0.9}])
    keys = {name: {text_key(row["text"]) for row in part} for name, part in splits(tmp_path).items()}
    assert keys["train"] & keys["test"] == keys["train"] & keys["validation"] == keys["validation"] & keys["test"]
    assert sum(map(len, keys.values())) == 50


def test_copies_that_shrink_to_texts_of_other_splits_are_not_made(tmp_path: Path) -> None:
    pairs = [f"{one} {two}" for one in NOUNS for two in NOUNS if one != two]
    texts = [*NOUNS, *pairs]
    entries = [{**row, "text": texts[place]} for place, row in enumerate(rows(len(texts)))]
    run_process(tmp_path, entries, processors=[{**AUGMENT, "share": 1, "drop_share": 0.5}])
    found = splits(tmp_path)
    copies = {row["text"] for row in found["train"] if row["id"].endswith("#augmented")}
    assert copies & {row["text"] for row in found["train"] if not row["id"].endswith("#augmented")}
    assert not copies & {row["text"] for name in ("validation", "test") for row in found[name]}


def test_deduplicate_over_several_batches(tmp_path: Path) -> None:
    number = BATCH_ROWS + 3000
    schema = table_schema([])
    texts = [f"text {place % 66_000}" for place in range(number)]
    columns = [[str(place) for place in range(number)], texts, ["a"] * number]
    batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=schema)
    bench = Bench(tmp_path, schema, "text-classification", ("a", "b"), belongs=lambda text: True)
    parts = (batch.slice(start, 10_000) for start in range(0, number, 10_000))
    kept = [name for part in Deduplicate().run(parts, bench) for name in part.column(ID).to_pylist()]
    assert kept == [str(place) for place in range(66_000)]
    assert bench.report == {"dropped": number - 66_000, "conflicting_labels": 0}


def test_the_raw_table_may_have_no_slices(tmp_path: Path) -> None:
    write_validated(tmp_path, [{k: v for k, v in row.items() if k != "domain"} for row in rows(90)], slices=())
    process(params(process={"processors": DEFAULT}), stage_io(tmp_path, "process"))
    assert len(all_rows(tmp_path)) == 90
