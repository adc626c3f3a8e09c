"""A directory such as a user of the Python API works in: files with rows, encoders, a trained model."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.models import MODELS
from lnmt.serving.postprocessors import POSTPROCESSORS
from lnmt.text.processors import PROCESSORS
from lnmt.training.callbacks import CALLBACKS
from lnmt.training.optimizers import OPTIMIZERS
from tests.task_kit import task_rows, tiny_causal_lm
from tests.tiny_bundle import tiny_encoder

REPOSITORY = Path(__file__).parents[2]
ROWS = 96


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Of models so small, threads are all overhead."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory's files, made once; read only."""
    root = tmp_path_factory.mktemp("api")
    rows = [row for row in task_rows("text-classification", 240) if row["label"] != "neutral"][:ROWS]
    with (root / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "mood"])
        writer.writerows([row["text"], row["label"]] for row in rows)
    tickets = [("pay me", ["invoice"]), ("pay me now", ["invoice", "urgent"]), ("hello", [])]
    lines = [json.dumps({"text": text, "label": label}) for text, label in tickets]
    (root / "tickets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    scores = pa.table({"text": ["good", "bad", "fine"], "score": [1.0, -1.5, 0.0]})
    pq.write_table(scores, root / "scores.parquet")
    tiny_encoder(root / "encoder")
    tiny_causal_lm(root / "language-model", [row["text"] for row in task_rows("text-generation", 40)])
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    return root


@pytest.fixture(scope="session")
def mood(made: Path) -> Path:
    """A trained model's bundle."""
    import lnmt

    rows = lnmt.Dataset.from_csv(made / "reviews.csv", text="review", label="mood")
    model = lnmt.Model(f"local:{made / 'encoder'}").train(
        rows, epochs=6, batch_size=8, learning_rate=2e-2, patience=12, precision="fp32"
    )
    return model.save(made / "models" / "mood")


@pytest.fixture
def here(made: Path, mood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the directory to work in, with the trained model in models/mood; nothing is fetched."""
    root = tmp_path / "here"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("LNMT_CACHE", str(root / "cache"))
    monkeypatch.setenv("LNMT_OFFLINE", "true")
    monkeypatch.setenv("LNMT_THREADS", "1")
    return root


@pytest.fixture
def plugin_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    tables: tuple[Any, ...] = (MODELS, PROCESSORS, OPTIMIZERS, CALLBACKS, POSTPROCESSORS)
    for table in tables:
        monkeypatch.setattr(table, "_entries", dict(table._entries))


@pytest.fixture
def custom_transformer(plugin_tables: None) -> None:
    """The example plugin, as if its package were installed: known by its entry point."""
    MODELS._entries["my-custom-transformer"] = "examples.plugins.model.lnmt_example_model:CustomTransformer"
