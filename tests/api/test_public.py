"""Every public name is there, lazy, documented, and its example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lnmt
import lnmt.metrics
from lnmt.public import PUBLIC, public_names, resolve

NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]
API = sorted(name for name in PUBLIC["lnmt"] if name != "metrics")
# what the specification, or its Python API's issue, writes
METHODS = {
    "Model": ["train", "predict", "save", "load", "compile", "enable_gradient_checkpointing", "enable_cache"],
    "Trainer": ["fit", "evaluate", "predict"],
    "Dataset": ["from_csv", "from_jsonl", "from_parquet", "split"],
    "InferenceServer": ["start", "stop"],
    "ModelHub": ["list_models", "download", "info"],
    "Config": ["from_yaml", "save", "update"],
}
# Their examples stand in the docstring of the class.
SHOWN_BY_THEIR_CLASS = {
    *(f"Trainer.{name}" for name in METHODS["Trainer"]),
    *(f"InferenceServer.{name}" for name in METHODS["InferenceServer"]),
    *(f"ModelHub.{name}" for name in METHODS["ModelHub"]),
    *(f"Config.{name}" for name in METHODS["Config"]),
}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_every_name_is_the_object_that_the_table_says(module: str, name: str) -> None:
    found = getattr(importlib.import_module(module), name)
    assert found == resolve(PUBLIC[module][name])
    assert name in dir(importlib.import_module(module))
    assert (inspect.getdoc(found) or "").strip()


def test_importing_lnmt_imports_nothing_that_works_on_data() -> None:
    heavy = "('numpy', 'pyarrow', 'torch', 'transformers', 'pydantic', 'lnmt.api', 'lnmt.models', 'lnmt.params')"
    code = (
        "import sys, lnmt, lnmt.core, lnmt.plugins, lnmt.data, lnmt.optimization\n"
        f"print([name for name in {heavy} if name in sys.modules], len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, modules = done.stdout.rsplit(" ", 1)
    assert loaded == "[]"
    assert int(modules) < 200  # of the standard library


ROOT = Path(__file__).parents[2]


def test_importing_lnmt_takes_less_than_a_tenth_of_a_second_of_a_core() -> None:
    code = "import time; start = time.process_time(); import lnmt; print(time.process_time() - start)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.1


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lnmt' has no attribute 'Modle'"):
        lnmt.Modle  # noqa: B018
    find, _, names = public_names("lnmt.core")
    assert "BaseModel" in names
    with pytest.raises(AttributeError, match=r"lnmt\.core"):
        find("Model")


def test_type_checkers_know_the_names_that_the_table_has() -> None:
    for module, names in PUBLIC.items():
        source = Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")
        block = source.partition("if TYPE_CHECKING:")[2].partition("\n__")[0]
        missing = [name for name in names if f"as {name}\n" not in block and f"    {name} =" not in block]
        assert missing == [], module


@pytest.mark.parametrize("name", METHODS)
def test_every_promised_method_is_there_and_has_an_example(name: str) -> None:
    kind = getattr(lnmt, name)
    assert ">>>" in str(kind.__doc__)
    for method in METHODS[name]:
        doc = str(getattr(kind, method).__doc__)
        assert ">>>" in doc or f"{name}.{method}" in SHOWN_BY_THEIR_CLASS, f"{name}.{method}"
    shown = [method for method in METHODS[name] if f"{name}.{method}" in SHOWN_BY_THEIR_CLASS]
    class_doc = str(kind.__doc__)
    assert [method for method in shown if f"{method}(" not in class_doc] == []


@pytest.mark.parametrize("name", API)
def test_its_examples_run(name: str, here: Path, custom_transformer: None) -> None:
    run_examples(getattr(lnmt, name), name, {one: getattr(lnmt, one) for one in API})


METRICS = list(lnmt.metrics.__all__)


@pytest.mark.parametrize("name", METRICS)
def test_the_examples_of_the_metrics_run(name: str) -> None:
    run_examples(getattr(lnmt.metrics, name), name, {one: getattr(lnmt.metrics, one) for one in METRICS})


def run_examples(item: Any, name: str, names: dict[str, Any]) -> None:
    found = doctest.DocTestFinder(recurse=True).find(item, name, globs=names)
    tests = [one for one in found if one.examples]
    assert tests, f"{name} shows no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in tests:
        runner.run(one, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
