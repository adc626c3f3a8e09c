from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.bundles import Bundle
from lnmt.files import write_json
from lnmt.init.edits import LOSSES
from lnmt.params import OptimizeParams, Params, load_params
from lnmt.progress import Progress
from lnmt.stages import StageIO, find_stage
from tests.tiny_bundle import LABELS, LINEAGE, WORDS, tiny_bundle

ROOT = Path(__file__).parents[2]


def stage_io(root: Path) -> StageIO:
    return StageIO(
        root=root,
        stage=find_stage("optimize"),
        work=root / "work",
        cache=root / "cache",
        offline=True,
        lineage=LINEAGE,
        progress=Progress(root / "progress.jsonl", show=False),
        state=root / ".lnmt",
    )


def quick(*, slices: Sequence[str] = ("length", "label"), **changes: Any) -> Params:
    """The shipped parameters with few rounds and wide limits: of a few rows nothing narrow can be shown."""
    params = load_params(ROOT / "params.yaml")
    few = {
        "engines": ["torch", "onnxruntime", "openvino"],
        "precisions": ["fp32", "bf16"],
        "compressions": [],
        "settings": {"streams": [1], "group_rows": [None]},
        "rounds": 4,
        "warmup_rounds": 1,
        "batch_sizes": [1, 4],
        "threads": 1,
        "bootstrap_samples": 200,
        "objective": {"measure": "p50", "batch_size": 1},
        **changes,
        "budget": {**params.optimize.budget.model_dump(), **dict.fromkeys(LOSSES, 0.5), **changes.get("budget", {})},
    }
    options = OptimizeParams.model_validate(params.optimize.model_dump() | few)
    evaluate = params.evaluate.model_copy(update={"slices": list(slices)})
    wanted = params.model_copy(update={"optimize": options, "evaluate": evaluate})
    return wanted.only(find_stage("optimize").sections)


def make_project(root: Path, rows: int = 60) -> Bundle:
    """What `optimize` reads: a trained tiny bundle that was approved, its temperature, the splits."""
    trained = tiny_bundle(root / "models" / "trained")
    rng = np.random.default_rng(3)
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "label")])
    for split in ("train", "validation", "test"):
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(rows)]
        labels = [str(label) for label in rng.choice(LABELS, rows)]
        directory = root / "data" / "processed" / split
        directory.mkdir(parents=True)
        table = pa.table([[f"{split}-{row}" for row in range(rows)], texts, labels], schema=schema)
        pq.write_table(table, directory / "part-00000.parquet")
    (root / "data/production").mkdir()
    write_json(root / "reports/evaluation/calibration.json", {"temperature": 1.25})
    write_json(root / "reports/gate/approval.json", {"bundle": trained.digest, "passed": True, "gates": 1})
    return trained


@pytest.fixture(scope="session")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on which the stage has run once, with every engine."""
    from lnmt.optimization.optimize import optimize

    root = tmp_path_factory.mktemp("optimized")
    make_project(root)
    optimize(quick(), stage_io(root))
    return root
