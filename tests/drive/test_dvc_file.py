from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lnmt.drive.dvc_file import local_sources, render
from lnmt.params import load_params, parse_params
from lnmt.stages import STAGES


def test_a_project_of_its_own_has_no_code_and_its_sources() -> None:
    content = yaml.safe_load(render(code=False, sources=["data/source"]))
    assert list(content["stages"]) == [stage.name for stage in STAGES]
    assert content["stages"]["ingest"] == {
        "cmd": "lnmt stage ingest",
        "deps": ["data/incoming", "data/source"],
        "params": ["plugins", "task", "ingest"],
        "outs": ["data/raw", "reports/ingest"],
    }
    assert "params" not in content["stages"]["gate"]


@pytest.mark.parametrize(
    ("base", "archive", "paths", "expected"),
    [
        (None, None, ["data/source/a.csv", "data/more/*.csv"], ["data/more", "data/source/a.csv"]),
        (None, "data/source/all.tar.gz", ["**/a.csv"], ["data/source/all.tar.gz"]),
        (None, None, ["/elsewhere/a.csv", "*.csv"], []),
        ("pypi:some==1", None, ["a.csv"], []),
    ],
)
def test_local_sources_are_what_dvc_can_watch(
    repository: Path, base: str | None, archive: str | None, paths: list[str], expected: list[str]
) -> None:
    raw: dict[str, Any] = load_params(repository / "params.yaml").model_dump(mode="json")
    files = [{"path": path, "set": {}} for path in paths]
    raw["ingest"]["sources"][0].update(base=base, archive=archive, files=files)
    assert local_sources(parse_params(raw, where="test")) == expected
