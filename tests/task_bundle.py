"""A real, tiny torch bundle of each task, with random weights: made here, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.models import build_model
from lnmt.models.base import ModelSetup
from lnmt.params import Plugin
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import Task
from tests.task_kit import FAMILIES, LABELS, task_rows, tiny_causal_lm
from tests.tiny_bundle import LINEAGE, tiny_encoder

MAX_TOKENS = 32


def task_bundle(target: Path, task: Task, **draft: Any) -> Bundle:
    """A bundle of `task`, opened. The same arguments give the same bytes; texts get different answers."""
    import torch

    labels = LABELS[task] or []
    family = Plugin(**FAMILIES[task])
    with TemporaryDirectory() as scratch:
        source = Path(scratch)
        if task == "text-generation":
            tiny_causal_lm(source, [row["text"] for row in task_rows(task)])
        else:
            tiny_encoder(source)
        tokenizer = Tokenizer(source / "tokenizer.json", MAX_TOKENS)
        setup = ModelSetup(
            task=task,
            labels=tuple(labels),
            options=family.options,
            encoder=source,
            vocabulary=tokenizer.vocabulary,
            max_tokens=MAX_TOKENS,
            pad_id=tokenizer.pad_id,
            seed=0,
        )
        model = build_model(family, setup)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.2)
        whole: dict[str, Any] = {
            "task": task,
            "labels": labels,
            "model": model.describe(family.name),
            "engine": "torch",
            "precision": "fp32",
            "max_tokens": MAX_TOKENS,
            "pad_multiple": 8,
            "temperature": 1.0,
            "processors": [],
            "parent": None,
            "lineage": LINEAGE,
            "evidence": {},
        }
        with new_bundle(target, Draft(**whole | draft)) as directory:
            model.save(directory / "model.safetensors")
            (directory / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return Bundle.open(target)
