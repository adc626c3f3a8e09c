"""README and docs say what is true: paths are there, commands parse, reference tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lnmt.cli.app import COMMANDS, GROUPS, command
from lnmt.serving.app import Handlers
from lnmt.settings import Settings
from lnmt.stages import STAGES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
PLACES = ("lnmt", "flows", "tasks", "tests", "docs", "examples", "benchmarks", "deploy")


def fenced(page: Path, language: str) -> list[str]:
    """The lines of every fenced block of a language, comments and blank lines left out."""
    blocks = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_path_in_the_tree_is_there(page: Path) -> None:
    named = re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
    paths = [name for name in named if "/" in name and name.split("/")[0] in PLACES]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_parses(page: Path) -> None:
    targets = set(re.findall(r"^([\w%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = command().commands
    for line in fenced(page, "bash"):
        program, *arguments = shlex.split(line)
        if program == "make":
            assert arguments[0] in targets or arguments[0].startswith("bench-"), line
        if program == "lnmt":
            found, options = commands[arguments[0]], arguments[1:]
            if hasattr(found, "commands"):
                found, options = found.commands[arguments[1]], arguments[2:]
            known = {option for parameter in found.params for option in parameter.opts}
            asked = {argument for argument in options if argument.startswith("-")}
            assert asked <= known, line


def test_benchmarks_named_in_the_docs_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"make bench-([\w]+)", page.read_text(encoding="utf-8"))}
    assert {name for name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()} == set()


def rows(page: str) -> list[list[str]]:
    """The cells of every table row of a reference page, code marks taken off."""
    lines = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_reference_has_every_setting() -> None:
    named = {name for row in rows("settings.md") for name in re.findall(r"`(LNMT_\w+)`", row[0])}
    assert named == {f"LNMT_{name.upper()}" for name in Settings.model_fields}


def test_the_reference_has_every_command() -> None:
    named = [row[0].strip("`") for row in rows("commands.md") if row[0].startswith("`lnmt ")]
    grouped = [f"lnmt {group} {name}" for group, _, commands in GROUPS for name, _ in commands]
    assert named == [f"lnmt {name}" for name, _ in COMMANDS] + grouped


def test_the_reference_has_every_stage_with_its_paths() -> None:
    def cells(paths: tuple[str, ...]) -> str:
        return ", ".join(f"`{path}`" for path in paths)

    wanted = [[f"`{stage.name}`", cells(stage.reads), cells(stage.writes)] for stage in STAGES]
    assert [row for row in rows("artifacts.md") if row in wanted] == wanted


def test_the_reference_has_every_route() -> None:
    named = set(re.findall(r"`((?:GET|POST) [^`]+)`", (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")))
    table = Handlers(*[None] * 5).table()  # type: ignore[arg-type]  # no handler is called
    assert named == {f"{method} {path}" for method, path, _, _ in table}
