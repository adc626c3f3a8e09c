"""A real git and DVC project of two quick stages, `ingest` and `validate`, under the names of the table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lnmt.settings import Settings

# What a stage does: read `behaviour.txt`, say how it ended the way `lnmt stage` does.
STAGE = """
import os, sys, time
from pathlib import Path
from lnmt.drive.exits import write_exit
from lnmt.errors import GateBlocked, LnmtError, Transient
from lnmt.progress import Progress
from lnmt.settings import load_settings

name, out = sys.argv[1:]
settings = load_settings()
behaviour = Path(f"{name}.txt").read_text().strip()
progress = Progress(settings.state_dir / "progress" / f"{name}.jsonl")
errors = {
    "user": LnmtError("no such column", where="params.yaml: ingest", value="txt", allowed="text", fix="rename it"),
    "gate": GateBlocked("macro_f1 is too low", value=0.5, fix="train longer"),
    "transient": Transient("no network", fix="wait"),
}
try:
    with progress.bar("rows", 2) as bar:
        bar.advance(2)
    if behaviour == "wait":
        Path("started").touch()
        time.sleep(60)
    if behaviour == "killed":
        os.kill(os.getpid(), 9)
    if behaviour in errors:
        raise errors[behaviour]
    Path(out).mkdir(parents=True)
    (Path(out) / "content.txt").write_text(behaviour)
except BaseException as error:
    write_exit(settings, name, error)
    sys.exit(getattr(error, "exit_code", 1))
if behaviour != "silent":
    write_exit(settings, name, None)
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    stages = {
        name: {
            "cmd": f"python stage.py {name} {out}",
            "deps": [f"{name}.txt", *reads],
            "outs": [out],
        }
        for name, out, reads in [("ingest", "data/raw", []), ("validate", "data/validated", ["data/raw"])]
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "stage.py").write_text(STAGE)
    shutil.copyfile(Path(__file__).parents[2] / "params.yaml", root / "params.yaml")
    (root / ".gitignore").write_text("/data\n/.lnmt\n")
    for name in ("ingest", "validate"):
        (root / f"{name}.txt").write_text("well\n")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    return root


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    project = tmp_path / "project"
    shutil.copytree(template, project)
    return Settings(project=project)
