"""What every server is given: the demo's sentences, and one classifier of them as files of two engines.

The encoder is the pretrained one, the head a logistic regression on its states: seconds of work, and labels that mean
something, so that an answer to another request is seen. The files are static int8, as the demo ships them, and bf16
where the machine has it.

Legend: B = rows, T = tokens, H = width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine_bench.contenders import STATIC, Workbench, label
from benchmarks.engine_bench.sentences import open_bench
from benchmarks.serving_bench.peers import Face
from benchmarks.trainers.common import Setting, spread_rows
from benchmarks.training import prepare
from lnmt.bundles import Bundle
from lnmt.data.batches import length_order
from lnmt.data.tables import read_batches
from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel
from lnmt.optimization.candidate import Candidate
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities
from lnmt.training.feed import to_batch
from lnmt.training.prepare import TrainingData
from lnmt.types import TEXT

HEAD_ROWS, HEAD_BATCH = 2000, 64
FILES = [
    Candidate("openvino", "fp32", (STATIC,)),
    Candidate("openvino", "bf16", (STATIC,)),
    Candidate("openvino", "bf16"),
    Candidate("onnxruntime", "fp32", (STATIC,)),
]
SETTINGS: list[dict[str, Any]] = [  # what files are run with; the first: as they are
    {},
    {"group_rows": 4},
    {"group_rows": 4, "streams": 2},
    {"group_rows": 16, "streams": 2},
]


@dataclass(frozen=True)
class Corpus:
    """Sentences and bundles."""

    texts: Sequence[str]  # in the order in which they are sent
    reference: Bundle  # PyTorch, fp32
    plain: Mapping[str, Bundle]  # name → files as they are: what peers are given
    tuned: Mapping[str, Bundle]  # name → the same files with LNMT's settings; and the plain ones

    def bodies(self, face: Face, path: Path) -> Path:
        """The file that wrk sends from: a body a line."""
        lines = (json.dumps(face.body(text), separators=(",", ":")) for text in self.texts)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        return path


def make_corpus(scratch: Path, machine: Capabilities, threads: int, seed: int, progress: Progress) -> Corpus:
    """Sentences of the test split, drawn into random order. Raises LnmtError where no engine for them runs here."""
    setting = Setting(**prepare(scratch))
    model = setting.model().eval()
    fit_head(model, setting.data)
    bench = open_bench(setting, model, scratch, machine, threads, progress)
    plain, tuned = make_bundles(bench)
    if not plain:
        raise LnmtError(
            "neither OpenVINO nor ONNX Runtime runs here", where="serving benchmark", fix="see: lnmt doctor"
        )
    batches = read_batches(Path(setting.processed) / "test", [TEXT])
    texts = [text for batch in batches for text in batch[TEXT].to_pylist()]
    order = np.random.default_rng(seed).permutation(len(texts))
    return Corpus([texts[place] for place in order], bench.source.bundle, plain, tuned)


def make_bundles(bench: Workbench) -> tuple[dict[str, Bundle], dict[str, Bundle]]:
    """By name: as they are, and with every setting."""
    plain, tuned = {}, {}
    for files in FILES:
        if bench.machine.why_not(files.engine, files.precision) is not None:
            continue
        for setting in SETTINGS:
            if int(setting.get("streams", 1)) <= bench.threads:
                candidate = files.with_settings(setting)
                tuned[label(candidate)] = bench.bundle(candidate)
        plain[label(files)] = tuned[label(files)]
    return plain, tuned


def fit_head(model: BaseModel, data: TrainingData) -> None:
    """Make the head a logistic regression on the pooled states [B, H] of rows spread over the training split."""
    from sklearn.linear_model import LogisticRegression

    head = [model.get_parameter(name) for name in ("head.weight", "head.bias")]
    rows = spread_rows(data.train, min(HEAD_ROWS, len(data.train)))
    states = np.empty((len(rows), head[0].shape[1]), dtype=np.float32)
    with torch.no_grad():
        for places in length_order(rows.lengths, HEAD_BATCH):
            states[places] = model(to_batch(rows, places, data.tokenizer).inputs)[1].numpy()
        fitted = LogisticRegression(max_iter=1000).fit(states, rows.labels)
        for parameter, found in zip(head, (fitted.coef_, fitted.intercept_), strict=True):
            parameter.copy_(torch.from_numpy(found).to(torch.float32))
