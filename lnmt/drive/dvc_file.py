"""`dvc.yaml`, made from the table in lnmt/stages.py.

In this repository it also names the code of each stage, since DVC does not follow imports:
`python -m lnmt.drive.dvc_file > dvc.yaml`. A project of `lnmt init` has no code of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from lnmt.params import FilesSource, Params
from lnmt.stages import STAGES, Stage

HEADER = "# Made from the table of stages (lnmt/stages.py). `lnmt doctor` tells when it no longer fits.\n"

METRICS = ("reports/training/summary.json", "reports/evaluation/metrics.json")

PLOTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("loss", {"x": "step", "y": {"reports/training/curves.csv": "loss"}, "y_label": "training loss"}),
    ("learning rate", {"x": "step", "y": {"reports/training/curves.csv": "lr"}, "y_label": "learning rate"}),
    (
        "reliability",
        {"x": "confidence", "y": {"reports/evaluation/reliability.csv": "accuracy"}, "y_label": "share that is right"},
    ),
    (
        "confusion",
        {
            "template": "confusion",
            "x": "actual",
            "y": {"reports/evaluation/confusion.csv": "predicted"},
        },
    ),
)


def render(stages: Sequence[Stage] = STAGES, *, code: bool, sources: Iterable[str] = ()) -> str:
    """The text of a dvc.yaml.

    `code`: the stages' own source files are dependencies. `sources`: files of the project that
    `ingest` reads beside `data/incoming` (see `local_sources`).
    """
    import yaml

    extra = {stages[0].name: tuple(sources)}
    content = {
        "stages": {stage.name: _entry(stage, code, extra) for stage in stages},
        "metrics": list(METRICS),
        "plots": [{name: plot} for name, plot in PLOTS],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=100)


def _entry(stage: Stage, code: bool, extra: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"cmd": f"lnmt stage {stage.name}"}
    entry["deps"] = [*stage.reads, *extra.get(stage.name, ()), *(stage.code if code else ())]
    if stage.sections:
        entry["params"] = list(stage.sections)
    entry["outs"] = list(stage.writes)
    return entry


def local_sources(params: Params) -> list[str]:
    """Paths inside the project that `ingest` reads: DVC must see them, a glob by the directory that holds it."""
    paths = []
    for source in params.ingest.sources:
        if not isinstance(source, FilesSource) or source.base is not None:
            continue
        for item in [source.archive] if source.archive else [item.path for item in source.files]:
            path = _without_glob(item)
            if not path.is_absolute() and path != PurePosixPath("."):
                paths.append(path.as_posix())
    return sorted(set(paths))


def _without_glob(path: str) -> PurePosixPath:
    parts = PurePosixPath(path).parts
    plain = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    return PurePosixPath(*parts[:plain])


if __name__ == "__main__":
    sys.stdout.write(render(code=True))
