"""Actions on bundles of tasks that are never released."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lnmt.bundles import Bundle
from lnmt.drive import actions
from lnmt.errors import LnmtError
from lnmt.progress import Progress
from lnmt.runtime.batch import BatchSummary
from lnmt.settings import load_settings
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import task_params

QUIET = Progress(show=False)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[actions.Live]:
    """A project of numbers whose pipeline made models/optimized."""
    task: Task = "text-regression"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(task_params(task, "rows.csv")))
    task_bundle(tmp_path / "models/optimized", task)
    (tmp_path / "in.csv").write_text("text\na good film\nawful\n")
    with actions.open_live(load_settings(tmp_path)) as opened:
        yield opened


def test_it_is_not_released(live: actions.Live) -> None:
    bundle = Bundle.open(live.settings.project / "models/optimized")
    live.bundles.put(bundle)
    for force in (False, True):
        with pytest.raises(LnmtError, match=r"does not answer this task(?s:.*)text-regression"):
            actions.release(live, bundle.digest, force=force)
    assert live.deployments.read(live.name) is None


def test_it_answers_files_without_a_release(live: actions.Live) -> None:
    root = live.settings.project
    done = actions.predict(live, root / "in.csv", root / "out.jsonl", text_column="text", progress=QUIET)
    assert done == BatchSummary(rows=2, errors=0, resumed=0)
    rows = [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]
    assert [sorted(row) for row in rows] == [["error", "predicted_value", "text"]] * 2
    assert rows[0]["predicted_value"] != rows[1]["predicted_value"]


def test_a_bundle_can_be_named(live: actions.Live) -> None:
    root = live.settings.project
    other = task_bundle(root / "models/reference", "text-regression", max_tokens=8)
    live.bundles.put(other)
    for which in ("reference", other.digest, other.digest[7:20]):
        out = root / f"{which[:9]}.csv"
        done = actions.predict(live, root / "in.csv", out, text_column="text", bundle=which, progress=QUIET)
        assert done.rows == 2
    with pytest.raises(LnmtError, match="no such version"):
        actions.predict(live, root / "in.csv", root / "x.csv", text_column="text", bundle="f" * 64, progress=QUIET)
