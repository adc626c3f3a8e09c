"""A tiny project of each task: source files of some 240 rows that can be learnt, an encoder, and params.yaml."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from lnmt.init.edits import LOSSES
from lnmt.training.metrics.names import default_metric
from lnmt.types import Task
from tests.tiny_bundle import tiny_encoder

REPOSITORY = Path(__file__).parents[1]
TASKS: tuple[Task, ...] = get_args(Task)
ROWS = 240
ENCODER = "encoder"  # directory of the project: an encoder, or a causal model for text-generation

LABELS: Mapping[Task, list[str] | None] = {
    "text-classification": ["negative", "neutral", "positive"],
    "multi-label-classification": ["film", "phone", "price"],
    "text-regression": None,
    "token-classification": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"],
    "text-generation": None,
}
FAMILIES: Mapping[Task, dict[str, Any]] = {
    "text-classification": {"name": "encoder_classifier", "dropout": 0.1},
    "multi-label-classification": {"name": "encoder_classifier", "dropout": 0.1},
    "text-regression": {"name": "encoder_classifier", "dropout": 0.1},
    "token-classification": {"name": "token_classifier", "dropout": 0.1},
    "text-generation": {"name": "causal_lm"},
}

SIGNS = {"negative": ("bad", "awful", "hate"), "neutral": ("okay", "fine"), "positive": ("good", "great", "love")}
TOPICS = {"film": ("film", "plot"), "phone": ("phone", "call"), "price": ("price", "cost")}
FILLING = ("the", "a", "of", "and", "is", "was", "it", "this", "very", "book")
PEOPLE = (("anna",), ("ben", "smith"), ("carl", "van", "dyk"), ("dora",), ("emil", "jones"))
PLACES = (("paris",), ("new", "york"), ("rome",), ("los", "angeles"))
VERBS = ("visits", "likes", "leaves", "misses")

Row = dict[str, Any]
Draw = np.random.Generator


def make_task_project(root: Path, task: Task) -> None:
    """Write params.yaml, data/incoming, the source file below source/ and the encoder. The stages run in seconds."""
    rows = task_rows(task)
    (root / "data" / "incoming").mkdir(parents=True, exist_ok=True)
    (root / "data" / "incoming" / ".gitkeep").touch()
    path = write_source(root / "source", rows)
    if task == "text-generation":
        tiny_causal_lm(root / ENCODER, [row["text"] for row in rows])
    else:
        tiny_encoder(root / ENCODER)
    content = task_params(task, path.relative_to(root).as_posix())
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def task_params(task: Task, path: str) -> dict[str, Any]:
    """The shipped params.yaml with what the task and so few rows need; `path` is the source file."""
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    label = None if task == "text-generation" else "label"
    content["task"] = task
    content["ingest"] |= {
        "sources": [
            {
                "kind": "files",
                "base": None,
                "digest": None,
                "archive": None,
                "files": [{"path": path, "set": {}}],
                "format": "auto",
                "encoding": "utf-8",
                "csv": None,
                "columns": {"text": "text", "label": label, "id": "id"},
                "bins": None,
            }
        ],
        "slices": [],
    }
    content["validate"] |= {"labels": LABELS[task], "min_rows": 100}
    content["process"] |= {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}, "holdout": {}}
    content["train"] |= {
        "model": FAMILIES[task],
        "encoder": f"local:{ENCODER}",
        "digest": None,
        "max_tokens": 32,
        "epochs": 4,
        "batch_size": 16,
        "optimizer": {"name": "adamw", "lr": 1e-2, "weight_decay": 0.01},
        "precision": "fp32",
        "evaluations_per_epoch": 1,
        "metric": default_metric(task),
    }
    content["evaluate"] |= {"baselines": [], "slices": ["length"], "min_slice_rows": 5, "bootstrap_samples": 50}
    content["gate"] = []
    content["optimize"] |= {
        "engines": ["torch", "onnxruntime"],
        "precisions": ["fp32"],
        "compressions": [],
        "budget": {**content["optimize"]["budget"], **dict.fromkeys(LOSSES, 0.5)},  # of few rows little can be shown
        "batch_sizes": [1],
        "rounds": 3,
        "warmup_rounds": 1,
        "bootstrap_samples": 50,
    }
    return content


def task_rows(task: Task, rows: int = ROWS, seed: int = 0) -> list[Row]:
    """Rows of wordings that all differ: `id`, `text` and, but for text-generation, `label` as a source has it."""
    draw = np.random.default_rng(seed)
    made: dict[str, Row] = {}
    while len(made) < rows:
        row = _MAKERS[task](draw)
        made.setdefault(" ".join(row["text"].split()), row)
    return [{"id": f"r{place}", **row} for place, row in enumerate(made.values())]


def write_source(directory: Path, rows: Sequence[Row]) -> Path:
    """The rows as rows.csv, or as rows.jsonl where a value is a list."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(isinstance(value, list) for value in rows[0].values()):
        path = directory / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    path = directory / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tiny_causal_lm(directory: Path, texts: Sequence[str], seed: int = 0) -> Path:
    """A GPT-2 (2 layers, 32 wide, 64 positions) with a byte-level tokenizer of these texts, as a hub gives it."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=320, min_frequency=1, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = GPT2LMHeadModel(config).state_dict()
    del weights["lm_head.weight"]  # tied to the embedding, as in the published files
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return directory


def _filling(draw: Draw) -> list[str]:
    return [str(word) for word in draw.choice(FILLING, draw.integers(2, 7))]


def _mixed(draw: Draw, words: Sequence[str]) -> str:
    return " ".join(str(word) for word in draw.permutation([*_filling(draw), *words]))


def _classification(draw: Draw) -> Row:
    """One word gives the label away."""
    label = str(draw.choice(sorted(SIGNS)))
    return {"text": _mixed(draw, [str(draw.choice(SIGNS[label]))]), "label": label}


def _multi_label(draw: Draw) -> Row:
    """A word for each label that the row has; some rows have none."""
    labels = [label for label in TOPICS if draw.random() < 0.45]
    return {"text": _mixed(draw, [str(draw.choice(TOPICS[label])) for label in labels]), "label": labels}


def _regression(draw: Draw) -> Row:
    """Half a point for each good word, half a point less for each bad one."""
    good, bad = int(draw.integers(0, 4)), int(draw.integers(0, 4))
    words = [*draw.choice(SIGNS["positive"], good), *draw.choice(SIGNS["negative"], bad)]
    return {"text": _mixed(draw, words), "label": str((good - bad) / 2)}


def _tags(draw: Draw) -> Row:
    """A person does something with a place, between words that are neither."""

    def span(words: Sequence[str], kind: str) -> Iterator[tuple[str, str]]:
        for place, word in enumerate(words):
            yield word, f"{'I' if place else 'B'}-{kind}"

    person, where = PEOPLE[draw.integers(len(PEOPLE))], PLACES[draw.integers(len(PLACES))]
    pairs = [
        *((word, "O") for word in _filling(draw)[:2]),
        *span(person, "PER"),
        (str(draw.choice(VERBS)), "O"),
        *span(where, "LOC"),
        *((word, "O") for word in _filling(draw)),
    ]
    return {"text": " ".join(word for word, _ in pairs), "label": [tag for _, tag in pairs]}


def _document(draw: Draw) -> Row:
    """Sentences of one pattern, so that most words follow from those before."""
    sentences = []
    for _ in range(draw.integers(2, 5)):
        person, where = PEOPLE[draw.integers(len(PEOPLE))], PLACES[draw.integers(len(PLACES))]
        sentences.append(f"{' '.join(person)} {draw.choice(VERBS)} {' '.join(where)}, and that is all.")
    return {"text": " ".join(sentences)}


_MAKERS: Mapping[Task, Callable[[Draw], Row]] = {
    "text-classification": _classification,
    "multi-label-classification": _multi_label,
    "text-regression": _regression,
    "token-classification": _tags,
    "text-generation": _document,
}
