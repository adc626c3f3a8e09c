from __future__ import annotations

import pytest

from lnmt.registry import Registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One MLflow for all tests: making its tables takes seconds. Each test uses a model name of its own."""
    state = tmp_path_factory.mktemp("mlflow")
    opened = Registry(f"sqlite:///{state / 'mlflow.db'}", state / "artifacts")
    assert opened.versions("nothing") == []
    return opened


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model name of the test's own."""
    return str(request.node.name)[:60].replace("[", "-").replace("]", "")
