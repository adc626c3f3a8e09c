from __future__ import annotations

from typing import Any, cast

import pytest
from prefect import Task
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from lnmt.errors import GateBlocked, LnmtError, Transient
from tasks.artifacts import metrics_table, pareto_table
from tasks.policy import artifact_name, is_transient


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Transient("no network"), True),
        (LnmtError("wrong"), False),
        (GateBlocked("too low"), False),
        (OSError("disk"), False),
    ],
)
def test_only_what_may_go_through_later_is_tried_again(error: Exception, again: bool) -> None:
    nothing = cast("Any", None)
    assert is_transient(cast("Task[Any, Any]", nothing), cast("TaskRun", nothing), Failed(data=error)) is again


def test_artifact_keys_are_what_prefect_takes() -> None:
    assert artifact_name("Train it_now") == "train-it-now"


def test_the_metrics_table_has_a_row_for_the_model_and_each_baseline() -> None:
    row = {"accuracy": 0.77512, "macro_f1": 0.71}
    assert metrics_table({"test": {**row, "rows": 3}, "baselines": {"majority": row}}) == [
        {"model": "this model", "accuracy": 0.7751, "macro_f1": 0.71},
        {"model": "majority", "accuracy": 0.7751, "macro_f1": 0.71},
    ]


def test_the_pareto_table_has_the_engines_that_none_beats() -> None:
    def entry(name: str, speedup: float, outcome: str) -> dict[str, object]:
        figure = {"ms": 10 / speedup, "speedup": speedup}
        parity = {"metric": "rmse", "metric_loss": 0.00123456}
        latency = {"8": {"p50": figure}}
        return {"name": name, "outcome": outcome, "parity": parity, "megabytes": 2.5, "latency": latency}

    document = {
        "options": {"objective": {"batch_size": 8}},
        "pareto": ["slow", "fast"],
        "measurements": [entry("slow", 1.0, "reference"), entry("beaten", 1.5, "refused"), entry("fast", 4.0, "ships")],
    }
    common = {"rmse lost": 0.00123, "MB": 2.5}
    assert pareto_table(document) == [
        {"engine": "fast", "outcome": "ships", "speed-up": 4.0, "ms, batch 8": 2.5, **common},
        {"engine": "slow", "outcome": "reference", "speed-up": 1.0, "ms, batch 8": 10.0, **common},
    ]


def test_the_metrics_table_has_the_figures_of_the_task() -> None:
    test = {"rows": 3, "rmse": 0.51239, "r2": 0.8, "intervals": {"rmse": [0.5, 0.6]}}
    assert metrics_table({"test": test, "baselines": {}}) == [{"model": "this model", "rmse": 0.5124, "r2": 0.8}]
