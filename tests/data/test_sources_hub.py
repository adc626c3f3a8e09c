"""The `hf` source, against a local directory laid out as a data set, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from lnmt.errors import LnmtError
from tests.data.sources_kit import read_source


@pytest.fixture
def project(tmp_path: Path) -> Path:
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "sentiment": datasets.ClassLabel(names=["negative", "positive"]),
            "domain": datasets.Value("string"),
        }
    )
    rows = {"sentence": ["good", "bad", "?"], "sentiment": [1, 0, -1], "domain": ["a", "b", "c"]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "reviews" / "train.parquet")
    return tmp_path


def hub_entry(**changes: Any) -> dict[str, Any]:
    columns = {"text": "sentence", "label": "sentiment", "id": None}
    entry: dict[str, Any] = {
        "kind": "hf",
        "repository": "reviews",
        "revision": "main",
        "split": "train",
        "set": {},
        "bins": None,
    }
    return {**entry, "columns": columns, **changes}


def test_class_labels_come_as_names(project: Path) -> None:
    assert read_source(project, hub_entry(), ["domain"]) == [
        {"id": "reviews/train/#1", "text": "good", "label": "positive", "domain": "a"},
        {"id": "reviews/train/#2", "text": "bad", "label": "negative", "domain": "b"},
        {"id": "reviews/train/#3", "text": "?", "label": None, "domain": "c"},
    ]


def test_an_unknown_split(project: Path) -> None:
    with pytest.raises(LnmtError, match="Bad split: dev") as caught:
        read_source(project, hub_entry(split="dev"))
    assert caught.value.where == "hf:reviews@main/dev"


def test_a_missing_column(project: Path) -> None:
    with pytest.raises(LnmtError, match="no column 'text'") as caught:
        read_source(project, hub_entry(columns={"text": "text", "label": "sentiment", "id": None}))
    assert caught.value.value == "'sentence', 'sentiment', 'domain'"
