"""START HERE: the pipeline as a table.

A stage is a pure function `(params, io) → files`: it sees only the sections and paths that its
line gives it. `dvc.yaml`, the Prefect tasks and `lnmt stage NAME` are all made from this table;
`tests/contracts/` holds them to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from lnmt.bundles.lineage import read_lineage
from lnmt.bundles.manifest import Lineage
from lnmt.errors import UnknownName
from lnmt.files import canonical_json, directory_digest, sha256_bytes
from lnmt.params import Params, load_params
from lnmt.plugins import load_plugins
from lnmt.progress import Progress
from lnmt.settings import Settings


@dataclass(frozen=True)
class Stage:
    """One line of the pipeline. Paths are relative to the project."""

    name: str
    function: str  # "module:function", imported only when the stage runs
    sections: tuple[str, ...]  # of params.yaml
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, ...]  # of this repository; DVC does not follow imports


STAGES = (
    Stage(
        "ingest",
        "lnmt.data.ingest:ingest",
        sections=("plugins", "task", "ingest"),
        reads=("data/incoming",),
        writes=("data/raw", "reports/ingest"),
        code=("lnmt/data", "lnmt/hub"),
    ),
    Stage(
        "validate",
        "lnmt.data.validate:validate",
        sections=("plugins", "task", "validate"),
        reads=("data/raw",),
        writes=("data/validated", "data/quarantine", "reports/validation"),
        code=("lnmt/data",),
    ),
    Stage(
        "process",
        "lnmt.data.process:process",
        sections=("plugins", "task", "process"),
        reads=("data/validated",),
        writes=("data/processed", "reports/process"),
        code=("lnmt/data", "lnmt/text"),
    ),
    Stage(
        "train",
        "lnmt.training.train:train",
        sections=("plugins", "train"),
        reads=("data/processed",),
        writes=("models/trained", "reports/training"),
        code=(
            "lnmt/training",
            "lnmt/models",
            "lnmt/bundles",
            "lnmt/text",
            "lnmt/data/batches.py",
            "lnmt/data/children.py",
            "lnmt/data/flat.py",
            "lnmt/data/labels.py",
            "lnmt/data/order.py",
            "lnmt/data/tables.py",
            "lnmt/data/token_shards.py",
        ),
    ),
    Stage(
        "evaluate",
        "lnmt.training.evaluate:evaluate",
        sections=("plugins", "evaluate", "gate"),
        reads=("data/processed", "models/trained"),
        writes=("reports/evaluation",),
        code=(
            "lnmt/training",
            "lnmt/runtime",
            "lnmt/models",
            "lnmt/bundles",
            "lnmt/text",
            "lnmt/stats",
            "lnmt/data/labels.py",
        ),
    ),
    Stage(
        "gate",
        "lnmt.training.gate:gate",
        sections=(),
        reads=("models/trained", "reports/evaluation"),
        writes=("reports/gate",),
        code=("lnmt/training/gate.py", "lnmt/training/metrics/names.py"),
    ),
    Stage(
        "optimize",
        "lnmt.optimization.optimize:optimize",
        sections=("plugins", "train", "evaluate", "optimize"),
        reads=("data/processed", "data/production", "models/trained", "reports/evaluation", "reports/gate"),
        writes=("models/reference", "models/optimized", "reports/optimization"),
        code=(
            "lnmt/optimization",
            "lnmt/runtime",
            "lnmt/models",
            "lnmt/bundles",
            "lnmt/text",
            "lnmt/stats",
            "lnmt/training",
            "lnmt/data",
        ),
    ),
)


@dataclass(frozen=True)
class StageIO:
    """What a running stage may touch: the paths of its line, a work directory, its progress."""

    root: Path
    stage: Stage
    work: Path  # survives a crash; `.lnmt/work/NAME/<digest of the inputs>`
    cache: Path  # downloads, kept by digest
    offline: bool
    lineage: Lineage
    progress: Progress
    state: Path  # of the project, `.lnmt`
    profile_steps: int | None = None  # of training

    @property
    def tokens(self) -> Path:
        """Where tokenised splits are kept by digest."""
        return self.state / "tokens"

    @property
    def logs(self) -> Path:
        """Where the stage may leave logs for people; never read by a stage."""
        return self.state / "logs" / self.stage.name

    def read(self, path: str) -> Path:
        """The absolute path of something the stage declares in `reads`."""
        assert path in self.stage.reads, f"{self.stage.name} does not declare that it reads {path}"
        return self.root / path

    def write(self, path: str) -> Path:
        """The absolute path of something the stage declares in `writes`; its parent exists."""
        assert path in self.stage.writes, f"{self.stage.name} does not declare that it writes {path}"
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        return self.root / path


StageFunction = Callable[[Params, StageIO], None]


def find_stage(name: str) -> Stage:
    """The line called `name`."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UnknownName("stage", name, [stage.name for stage in STAGES], where="lnmt/stages.py")


def run_stage(name: str, settings: Settings) -> None:
    """Run one stage here and now, without asking whether it is stale (that is DVC's part)."""
    stage = find_stage(name)
    params = load_params(settings.project / "params.yaml")
    load_plugins(params.plugins, settings.project)
    io = stage_io(stage, params, settings)
    module, _, attribute = stage.function.partition(":")
    function: StageFunction = getattr(importlib.import_module(module), attribute)
    function(params.only(stage.sections), io)


def stage_io(stage: Stage, params: Params, settings: Settings, progress: Progress | None = None) -> StageIO:
    """What `stage` may touch in the project of `settings`; without `progress` it tells its own file."""
    root, name = settings.project, stage.name
    inputs = {
        "sections": {section: _plain(getattr(params, section)) for section in stage.sections},
        "reads": {path: directory_digest(root / path) for path in stage.reads},
    }
    return StageIO(
        root=root,
        stage=stage,
        work=settings.state_dir / "work" / name / sha256_bytes(canonical_json(inputs)).removeprefix("sha256:")[:16],
        cache=settings.cache,
        offline=settings.offline,
        lineage=read_lineage(root, upstream(stage)),
        progress=progress or Progress(settings.state_dir / "progress" / f"{name}.jsonl"),
        state=settings.state_dir,
        profile_steps=settings.profile_steps,
    )


def _plain(section: Any) -> Any:
    """A section of the parameters as JSON values."""
    return TypeAdapter(type(section)).dump_python(section, mode="json")


def upstream(stage: Stage) -> list[str]:
    """Names of the stages before `stage`."""
    names = [line.name for line in STAGES]
    return names[: names.index(stage.name)]
