"""A virtual environment for each peer, below LNMT's cache; kept there for as long as its requirements stay the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serving_bench.peers import Peer
from lnmt.errors import LnmtError
from lnmt.files import write_bytes

STAMP = "requirements.txt"  # written last: an environment without it is not whole


def open_environment(peer: Peer, root: Path) -> Path:
    """The Python of the peer's environment, which is made where it is not there as wanted.

    Raises LnmtError where it cannot be made.
    """
    directory = root / peer.environment
    python = directory / "bin/python"
    wanted = "".join(f"{line}\n" for line in peer.requirements)
    if python.exists() and _stamp(directory) == wanted:
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise LnmtError("uv is not installed", where="PATH", fix="make setup")
    directory.parent.mkdir(parents=True, exist_ok=True)
    (directory / STAMP).unlink(missing_ok=True)
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(directory)], peer)
    _run([uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements], peer)
    write_bytes(directory / STAMP, wanted.encode())
    return python


def installed(python: Path) -> dict[str, str]:
    """Distribution → version of an environment."""
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([str(python), "-c", script], stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return dict(sorted(found.items()))


def _stamp(directory: Path) -> str | None:
    path = directory / STAMP
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _run(command: list[str], peer: Peer) -> None:
    done = subprocess.run(command, env=_variables(), stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-5:]
        raise LnmtError(
            f"the environment of {peer.title} cannot be made",
            where=" ".join(command[:3]),
            value=" / ".join(line.strip() for line in told)[:500],
            allowed="\n".join(peer.requirements),
            fix="look at what uv says; or leave the peer out of --peers",
        )


def _variables() -> dict[str, str]:
    """Torch comes from local wheels where pip is told of some, as in the Makefile; else uv picks the build."""
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    return {**os.environ, **({"UV_FIND_LINKS": links} if links else {"UV_TORCH_BACKEND": "auto"})}
