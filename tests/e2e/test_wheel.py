"""From the built wheel, outside this repository, on a file of another task with other labels: to a served answer."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import httpx
import pytest

from lnmt.drive.pages import free_port
from lnmt.telemetry import quiet_environment

pytestmark = pytest.mark.timeout(600)

TEAMS = {
    "lost card": (["I lost", "somebody stole", "I cannot find", "where is"], ["my card", "my debit card", "the card"]),
    "transfer": (["please send", "transfer", "I want to wire", "move"], ["money abroad", "100 euros", "the rent"]),
    "balance": (["how much is", "tell me", "show", "I need to know"], ["my balance", "what is left", "my account"]),
}
ENDINGS = ["", " please", " now", " today", " quickly", ", thank you", " if you can", " for me", " again", " at once"]


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and not this checkout."""

    python: Path
    wheel: Path

    def run(self, *arguments: str, cwd: Path) -> str:
        done = subprocess.run(
            [str(self.python.parent / "lnmt"), *arguments],
            cwd=cwd,
            env=self.environment(cwd),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self, cwd: Path) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "LNMT_PROJECT"}}
        return {**own, **quiet_environment(), "PWD": str(cwd)}


@pytest.fixture(scope="session")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built from a copy of the tree, in a fresh environment that sees this one's other packages."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("lnmt", "flows", "tasks"):
        shutil.copytree(
            repository / name, place / "tree" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "params.yaml", "prefect.yaml", "README.md"):
        shutil.copy(repository / name, place / "tree")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(place / "tree")]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "venv")], check=True)
    python = place / "venv/bin/python"
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    # a line of a .pth file adds the directory alone: the editable install in it stays out
    paths = sysconfig.get_paths(vars={"base": str(place / "venv"), "platbase": str(place / "venv")})
    (Path(paths["purelib"]) / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return Installed(python, wheel)


@pytest.fixture(scope="session")
def project(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("elsewhere")
    lines = [
        f'"{start} {what}{end}",{team}'
        for team, (starts, whats) in TEAMS.items()
        for start, what, end in product(starts, whats, ENDINGS)
    ]
    random.Random(7).shuffle(lines)  # the tiny profile takes the first rows
    (place / "tickets.csv").write_text("\n".join(["message,team", *lines]) + "\n")
    script = readme_block("own data", "bash").replace(" --yes", " --profile tiny --yes")
    assert "--profile tiny" in script
    programs = os.pathsep.join([str(installed.python.parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=place,
        env={**installed.environment(place), "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "my-project"


def readme_block(name: str, language: str) -> str:
    """The block of README.md that is marked to be run."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- run: {name} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"README.md marks no block {name!r}"
    return found[1]


def test_the_wheel_holds_what_a_project_needs(installed: Installed, repository: Path) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
        assert wheel.read("lnmt/template/params.yaml").decode() == (repository / "params.yaml").read_text()
        assert wheel.read("lnmt/template/prefect.yaml").decode() == (repository / "prefect.yaml").read_text()
    carried = [
        path.relative_to(repository).as_posix()
        for path in (repository / "lnmt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(carried) - set(names) == set()
    assert {"flows/lifecycle.py", "tasks/stages.py"} <= set(names)


def test_the_installed_package_is_the_wheels(installed: Installed, tmp_path: Path) -> None:
    found = subprocess.run(
        [str(installed.python), "-c", "import lnmt, flows, tasks; print(lnmt.__file__)"],
        cwd=tmp_path, env=installed.environment(tmp_path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(installed.python.parents[1])


def test_the_readme_takes_own_data_to_a_served_answer(installed: Installed, project: Path) -> None:
    again = json.loads(installed.run("run", "--json", cwd=project))
    assert {result["outcome"] for result in again} == {"up to date"}
    versions = json.loads(installed.run("models", "--json", cwd=project))
    assert [(version["number"], version["live"]) for version in versions] == [(1, "champion")]

    label, arm, prediction_id = served_answer(installed, project)
    assert label in TEAMS
    assert arm == "champion"
    traced = json.loads(installed.run("trace", prediction_id, "--json", cwd=project))
    assert traced["event"]["bundle"] == versions[0]["bundle"]
    assert traced["lineage"]["commit"] is not None

    installed.run("predict", "data/source/tickets.csv", "--out", "out.csv", "--text", "message", cwd=project)
    assert len((project / "out.csv").read_text().splitlines()) == 361


def served_answer(installed: Installed, project: Path) -> list[str]:
    """What the README's client prints against `lnmt serve`, which ends as Ctrl-C ends it."""
    port = free_port(0)
    command = [str(installed.python.parent / "lnmt"), "serve", "--port", str(port)]
    environment = installed.environment(project)
    with subprocess.Popen(command, cwd=project, env=environment, start_new_session=True) as server:
        try:
            await_ready(f"http://127.0.0.1:{port}/readyz", server)
            code = readme_block("client", "python").replace(":3000", f":{port}")
            client = [str(installed.python), "-c", code]
            done = subprocess.run(client, cwd=project, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        finally:
            server.send_signal(signal.SIGINT)
            code_of_server = server.wait(60)
    assert code_of_server == 0
    *label, arm, prediction_id = done.stdout.split()
    return [" ".join(label), arm, prediction_id]


def await_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < ends:
        try:
            if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")


def test_the_readme_trains_from_python(installed: Installed, project: Path) -> None:
    place = project.parent
    block = readme_block("python", "python")
    done = subprocess.run(
        [str(installed.python), "-c", block],
        cwd=place,
        env=installed.environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    score, label = done.stdout.split(maxsplit=1)
    assert 0.0 <= float(score) <= 1.0
    assert label.strip() in TEAMS
    assert (place / "models/tickets/bundle.json").is_file()
