"""Write a project: params.yaml, dvc.yaml, prefect.yaml, git and DVC."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnmt.drive.dvc_file import local_sources, render
from lnmt.errors import LnmtError
from lnmt.files import write_bytes
from lnmt.init.edits import Edit, shipped
from lnmt.stages import STAGES
from lnmt.telemetry import quiet_environment

SOURCE = "data/source"
DVC_CONFIG = """\
[core]
    analytics = false
    autostage = false
    check_update = false
    remote = local
['remote "local"']
    url = ../.lnmt/remote
"""
DVC_IGNORE = """\
# What DVC must not see when it hashes a directory, or need not walk. The syntax is that of .gitignore.
__pycache__/
*.pyc
.gitkeep
/.venv/
/.lnmt/
/.mypy_cache/
/.pytest_cache/
/.ruff_cache/
"""
KEPT = ("data/incoming", "data/production")  # inputs that come later: DVC wants their directories
IDENTITY = {"NAME": "lnmt", "EMAIL": "lnmt@localhost"}


@dataclass(frozen=True)
class Written:
    """What `init` made."""

    project: Path
    git: bool
    commit: str | None


def check_target(directory: Path) -> None:
    """Refuse a place where a project would overwrite something."""
    if (directory / "params.yaml").exists():
        raise LnmtError(
            "there is a project already", where=directory, fix="name another directory, or edit its params.yaml"
        )
    if directory.exists() and not directory.is_dir():
        raise LnmtError("not a directory", where=directory, fix="name another one")


def write_project(directory: Path, edit: Edit, data: Path | None, *, store_text: bool) -> Written:
    """Write every file, then make the git and DVC repositories and a first commit.

    `data` is copied below data/source and tracked by DVC. Without git, DVC works on its own.
    """
    check_target(directory)
    directory = directory.absolute()
    text = edit.text()
    for name in KEPT:
        write_bytes(directory / name / ".gitkeep", b"")
    if data is not None:
        (directory / SOURCE).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data, directory / SOURCE / data.name)
    write_bytes(directory / "params.yaml", text.encode())
    sources = local_sources(Edit.params(text))
    write_bytes(directory / "dvc.yaml", render(code=False, sources=sources).encode())
    write_bytes(directory / "prefect.yaml", shipped("prefect.yaml").encode())
    write_bytes(directory / ".gitignore", gitignore().encode())
    if store_text:
        write_bytes(directory / "lnmt.env", b"LNMT_STORE_TEXT=true\n")
    git = _git(directory)
    _dvc(directory, git=git, data=data)
    return Written(directory, git, _commit(directory) if git else None)


def gitignore() -> str:
    """What the stages write, the live state, and data that DVC tracks."""
    outputs = [f"/{path}" for stage in STAGES for path in stage.writes if path.startswith("data/")]
    own = ["/models/", "/reports/", "/dvc_plots/", "/.lnmt/", "/lnmt.env", "__pycache__/", ".venv/"]
    inputs = [line for name in KEPT for line in (f"/{name}/*", f"!/{name}/.gitkeep")]
    lines = [*outputs, *inputs, *own]
    return "\n".join(lines) + "\n"


def _git(directory: Path) -> bool:
    """A git repository is there, or was made; False without git."""
    if shutil.which("git") is None:
        return False
    _run(["git", "init", "--quiet"], directory)
    return True


def _dvc(directory: Path, *, git: bool, data: Path | None) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    _run([*dvc, "init", "--quiet", *([] if git else ["--no-scm"])], directory)
    write_bytes(directory / ".dvc/config", DVC_CONFIG.encode())
    write_bytes(directory / ".dvcignore", DVC_IGNORE.encode())
    if data is not None:
        _run([*dvc, "add", "--quiet", f"{SOURCE}/{data.name}"], directory)


def _commit(directory: Path) -> str:
    """Commit what was written; under LNMT's own name where git knows none."""
    _run(["git", "add", "--all"], directory)
    known = subprocess.run(["git", "config", "user.email"], cwd=directory, capture_output=True, check=False)
    names = (
        {}
        if known.returncode == 0
        else {f"GIT_{who}_{part}": value for who in ("AUTHOR", "COMMITTER") for part, value in IDENTITY.items()}
    )
    _run(["git", "commit", "--quiet", "--no-verify", "-m", "A new project"], directory, names)
    return _run(["git", "rev-parse", "HEAD"], directory).strip()


def _run(command: Sequence[str], directory: Path, extra: dict[str, str] | None = None) -> str:
    environment = {**os.environ, **quiet_environment(), **(extra or {})}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LnmtError(
            f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout).strip()}",
            where=directory,
            fix="mend what it names, remove the directory and run `lnmt init` again",
        )
    return done.stdout
