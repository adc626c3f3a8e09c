"""What `lnmt doctor` looks at. Nothing here changes anything."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lnmt.errors import LnmtError
from lnmt.settings import Settings, load_settings

if TYPE_CHECKING:
    from lnmt.runtime.capabilities import Capabilities

State = Literal["ok", "warn", "bad"]
PACKAGES = (
    "prefect",
    "dvc",
    "mlflow",
    "bentoml",
    "evidently",
    "great-expectations",
    "torch",
    "onnxruntime",
    "openvino",
)
FREE_GB = 5.0
GPU_ENGINES = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: State
    what: str
    found: str
    fix: str | None = None


def examine(project: Path | None) -> list[Finding]:
    """Everything, in the order in which one would mend it."""
    findings = [*_machine(), *_environment()]
    try:
        settings = load_settings(project)
    except LnmtError as error:
        return [*findings, _bad("project", error)]
    return [*findings, *_project(settings), *_disk(settings)]


def _machine() -> Iterator[Finding]:
    from lnmt.runtime.capabilities import capabilities

    yield Finding("ok", "python", sys.version.split()[0])
    for package in PACKAGES:
        try:
            yield Finding("ok", package, version(package))
        except PackageNotFoundError:
            yield Finding("bad", package, "not installed", "install LNMT again from its constraints")
    git = shutil.which("git")
    yield Finding("ok" if git else "warn", "git", git or "not found", None if git else "lineage will name no commit")
    yield from _hardware(capabilities())


def _hardware(machine: Capabilities) -> Iterator[Finding]:
    """CPU and GPUs, then each engine: the precisions it runs, and why it does not run the others."""
    yield Finding("ok", "hardware", machine.hardware)
    flags = ", ".join(machine.flags) or "none that matters"
    yield Finding("ok", "cpu", f"{' '.join(filter(None, (machine.vendor, machine.cpu)))}; {flags}")
    yield Finding("ok", "cpu, int8", machine.int8 or "8-bit products in hardware")
    if isinstance(machine.gpus, str):
        yield Finding("ok", "gpu", machine.gpus)
    else:
        for place, gpu in enumerate(machine.gpus):
            yield Finding("ok", f"gpu {place}", str(gpu))
    for engine, precisions in machine.engines.items():
        yield from _engine(engine, precisions, machine.libraries)


def _engine(
    engine: str, precisions: Mapping[str, str | None], libraries: Mapping[str, str | None]
) -> Iterator[Finding]:
    from lnmt.runtime.availability import LIBRARIES

    able = [precision for precision, reason in precisions.items() if reason is None]
    reasons = list(dict.fromkeys(reason for reason in precisions.values() if reason is not None))
    if not able and len(reasons) == 1:
        # a GPU that is not there is nothing to mend; a library is
        state: State = "ok" if engine in GPU_ENGINES else "warn"
        yield Finding(state, f"engine {engine}", f"cannot run here: {reasons[0]}", reasons[0])
        return
    names = [f"{name} {libraries[name]}" for name in LIBRARIES.get(engine, ()) if libraries.get(name)]
    yield Finding("ok", f"engine {engine}", f"{', '.join(able) or 'cannot run here'} ({', '.join(names)})")
    for reason in reasons:
        lacking = ", ".join(precision for precision, why in precisions.items() if why == reason)
        yield Finding("ok", f"engine {engine}, no {lacking}", reason)


def _environment() -> Iterator[Finding]:
    """Settings with a name that nothing reads."""
    known = {f"LNMT_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(name for name in os.environ if name.startswith("LNMT_") and name not in known):
        near = difflib.get_close_matches(name, sorted(known), n=1)
        fix = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        yield Finding("warn", name, "no such setting", fix)


def _project(settings: Settings) -> Iterator[Finding]:
    from lnmt.drive.dvc_file import local_sources
    from lnmt.params import load_params

    root = settings.project
    yield Finding("ok", "project", str(root))
    try:
        params = load_params(root / "params.yaml")
    except LnmtError as error:
        yield _bad("params.yaml", error)
        return
    yield Finding("ok", "params.yaml", f"model {params.name!r}")
    yield _dvc_file(root, local_sources(params))
    is_dvc = (root / ".dvc").is_dir()
    yield Finding("ok" if is_dvc else "bad", "dvc", "a repository" if is_dvc else "not a repository", "run: dvc init")
    programs = Path(sys.executable).parent
    here = shutil.which("lnmt") is not None
    fix = None if here else f"`dvc repro` by hand needs {programs} in PATH; `lnmt run` does not"
    yield Finding("ok" if here else "warn", "lnmt in PATH", str(shutil.which("lnmt")), fix)


def _dvc_file(root: Path, sources: list[str]) -> Finding:
    import yaml

    from lnmt.stages import STAGES

    path = root / "dvc.yaml"
    if not path.is_file():
        return Finding("bad", "dvc.yaml", "missing", "copy it from a new project: lnmt init DIRECTORY --profile demo")
    found = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {})
    wrong = []
    for index, stage in enumerate(STAGES):
        entry = found.get(stage.name) or {}
        reads, writes = {*stage.reads, *(sources if index == 0 else [])}, set(stage.writes)
        wrong += [f"{stage.name} lacks the dependency {path}" for path in sorted(reads - set(entry.get("deps") or []))]
        wrong += [f"{stage.name} lacks the output {path}" for path in sorted(writes - set(entry.get("outs") or []))]
    if wrong:
        return Finding("bad", "dvc.yaml", "; ".join(wrong[:3]), "add what is lacking to dvc.yaml")
    return Finding("ok", "dvc.yaml", f"{len(STAGES)} stages")


def _disk(settings: Settings) -> Iterator[Finding]:
    for what, path in (("disk of the project", settings.project), ("disk of the cache", settings.cache)):
        place = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(place).free / 1e9
        writable = os.access(place, os.W_OK)
        fine = free >= FREE_GB and writable
        found = f"{free:.1f} GB free" + ("" if writable else ", not writable")
        yield Finding("ok" if fine else "warn", what, found, None if fine else f"make room or rights at {place}")


def _bad(what: str, error: LnmtError) -> Finding:
    return Finding("bad", what, error.what, error.fix)
