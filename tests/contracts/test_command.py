"""The `lnmt` command as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lnmt.cli.app import COMMANDS, GROUPS

ALL = (*COMMANDS, *((f"{group} {name}", function) for group, _, commands in GROUPS for name, function in commands))
HEAVY = ("bentoml", "datasets", "dvc", "evidently", "great_expectations", "mlflow", "numpy", "onnx", "onnxruntime",
         "openvino", "pandas", "prefect", "pyarrow", "sklearn", "sqlalchemy", "torch", "transformers")  # fmt: skip
SHOW = "import sys; from lnmt.cli import run; code = run({arguments!r}); print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["init", "--help"]])
def test_help_imports_nothing_that_works_on_data(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(arguments=arguments)], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded & set(HEAVY) == set()
    assert done.stdout


@pytest.mark.parametrize(("name", "function"), ALL, ids=[name for name, _ in ALL])
def test_every_command_says_what_it_does(name: str, function: object) -> None:
    first = (function.__doc__ or "").strip().splitlines()[0]
    assert first.endswith((".", ";")), first
    assert len(first) < 110


def test_every_reporting_command_takes_json() -> None:
    from inspect import signature

    silent = {"serve", "stage", "ui"}
    assert {name for name, function in ALL if "as_json" not in signature(function).parameters} == silent
