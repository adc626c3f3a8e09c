"""Who may import which library: deny by default. The order of our own packages is import-linter's part."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

if TYPE_CHECKING:
    from grimp import ImportGraph

OURS = ("lnmt", "flows", "tasks")

# library → the packages or modules that may import it
ALLOWED = {
    "prefect": ("flows", "tasks"),
    "bentoml": ("lnmt.serving",),
    "mlflow": ("lnmt.registry",),
    "dvc": ("lnmt.drive",),
    "great_expectations": ("lnmt.data",),
    "evidently": ("lnmt.monitoring",),
    "onnxruntime": (
        "lnmt.runtime.onnxruntime",
        "lnmt.runtime.tensorrt_rtx",
        "lnmt.optimization.backends.onnxruntime",
        "lnmt.optimization.backends.onnxruntime_int8",
    ),
    "openvino": ("lnmt.runtime.openvino", "lnmt.optimization.backends.openvino"),
    "tensorrt": ("lnmt.runtime.tensorrt", "lnmt.runtime.trt_build"),
    "typer": ("lnmt.cli",),
    "huggingface_hub": ("lnmt.hub", "lnmt.data.sources"),
    "unearth": ("lnmt.hub",),
    "starlette": ("lnmt.serving",),
    "transformers": ("lnmt.models",),
    "tokenizers": ("lnmt.text",),
    "opentelemetry": ("lnmt.observability.opentelemetry",),
    "structlog": ("lnmt.observability",),
    "redis": ("lnmt.api", "lnmt.serving"),
    "vaderSentiment": ("lnmt.training",),
}


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return grimp.build_graph(*OURS, include_external_packages=True, exclude_type_checking_imports=True)


@pytest.mark.parametrize("library", sorted(ALLOWED))
def test_a_library_is_imported_only_where_it_belongs(graph: ImportGraph, library: str) -> None:
    if library not in graph.modules:
        return
    importers = graph.find_modules_that_directly_import(library)
    wrong = [
        module
        for module in importers
        if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in ALLOWED[library])
    ]
    assert sorted(wrong) == []


def test_every_package_has_its_layer(repository: Path) -> None:
    config = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(contract for contract in config["contracts"] if contract["id"] == "layers")["layers"]
    named = {part.strip(" ()") for layer in layers for part in layer.split("|")}
    root = repository / "lnmt"
    packages = {path.name for path in root.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    modules = {path.stem for path in root.glob("*.py")} - {"__init__"}
    assert {f"lnmt.{name}" for name in packages | modules} - named == set()
