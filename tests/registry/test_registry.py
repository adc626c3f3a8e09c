from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lnmt.bundles import Bundle, Lineage
from lnmt.errors import LnmtError, Transient
from lnmt.registry import Registry, Version
from lnmt.registry import registry as module
from lnmt.registry.version import metric_name
from tests.plain_bundle import LINEAGE, plain_bundle

METRICS = {"macro_f1": 0.72, "accuracy/domain=film": 0.75}
EXAMPLE = ["a fine film", "böse"]


@dataclass(frozen=True)
class Live:
    name: str
    generation: int
    champion: str | None
    challenger: str | None = None


def model_directory(registry: Registry, version: Version) -> Path:
    """Where MLflow keeps the model of a version."""
    return Path(
        registry.client.get_model_version_download_uri(version.name, str(version.number)).removeprefix("file://")
    )


def test_nothing_is_there_at_first(registry: Registry) -> None:
    assert registry.versions("nowhere") == []
    assert registry.version_of("nowhere", "sha256:a") is None


def test_a_version_says_what_it_is_and_where_it_comes_from(registry: Registry, name: str, tmp_path: Path) -> None:
    bundle = plain_bundle(tmp_path / "bundle", engine="openvino", parent="sha256:parent")
    version = registry.register(bundle, name=name, metrics=METRICS, input_example=EXAMPLE)
    assert version == Version(
        name=name,
        number=1,
        bundle=bundle.digest,
        parent="sha256:parent",
        engine="openvino",
        precision="fp32",
        lineage=LINEAGE,
        run=version.run,
        created=version.created,
        aliases=(),
    )
    assert registry.version_of(name, bundle.digest) == version
    assert registry.versions(name) == [version]
    assert registry.metrics(version) == {"macro_f1": 0.72, "accuracy/domain_film": 0.75}
    assert registry.client.get_run(version.run).info.status == "FINISHED"


def test_reports_are_kept_with_the_run(registry: Registry, name: str, tmp_path: Path) -> None:
    report = tmp_path / "optimization"
    report.mkdir()
    (report / "measurements.json").write_text("{}")
    bundle = plain_bundle(tmp_path / "bundle")
    version = registry.register(bundle, name=name, metrics={}, input_example=[], reports=[report])
    kept = registry.client.list_artifacts(version.run, "optimization")
    assert [entry.path for entry in kept] == ["optimization/measurements.json"]


def test_what_is_not_known_has_no_tag(registry: Registry, name: str, tmp_path: Path) -> None:
    lineage = Lineage(commit=None, dirty=True, params="sha256:p", lock="sha256:l", data=None)
    bundle = plain_bundle(tmp_path / "bundle", lineage=lineage)
    version = registry.register(bundle, name=name, metrics={}, input_example=[])
    assert version.lineage == lineage
    assert version.parent is None
    tags = registry.client.get_model_version(name, "1").tags
    assert tags.keys() >= {"lnmt.bundle", "lnmt.dirty", "lnmt.params", "lnmt.lock", "lnmt.engine", "lnmt.precision"}
    assert not tags.keys() & {"lnmt.commit", "lnmt.data", "lnmt.parent"}


def test_the_model_shows_signature_and_example_and_holds_the_bundle(
    registry: Registry, name: str, tmp_path: Path
) -> None:
    bundle = plain_bundle(tmp_path / "bundle")
    version = registry.register(bundle, name=name, metrics=METRICS, input_example=EXAMPLE)
    directory = model_directory(registry, version)
    model = yaml.safe_load((directory / "MLmodel").read_text(encoding="utf-8"))
    assert json.loads(model["signature"]["inputs"]) == [{"type": "string", "name": "text", "required": True}]
    assert [column["name"] for column in json.loads(model["signature"]["outputs"])] == ["label", "scores"]
    assert model["metadata"] == {"bundle": bundle.digest}
    example = json.loads((directory / "input_example.json").read_text(encoding="utf-8"))
    assert example == {"columns": ["text"], "data": [["a fine film"], ["böse"]]}
    logged = registry.client.get_logged_model(model["model_id"])
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": version.name, "version": 1}]
    flavour = model["flavors"]["python_function"]
    assert flavour["loader_module"] == "lnmt.registry.pyfunc"
    assert Bundle.open(directory / flavour["data"]).digest == bundle.digest
    assert f"lnmt=={importlib.metadata.version('lnmt')}" in (directory / "requirements.txt").read_text().splitlines()
    assert not [path for path in directory.rglob("*") if path.suffix in (".pkl", ".pickle", ".py")]


def test_the_same_bundle_makes_no_second_version(registry: Registry, name: str, tmp_path: Path) -> None:
    first = registry.register(plain_bundle(tmp_path / "one"), name=name, metrics=METRICS, input_example=EXAMPLE)
    again = registry.register(plain_bundle(tmp_path / "copy"), name=name, metrics={}, input_example=[])
    other = registry.register(plain_bundle(tmp_path / "two", "other"), name=name, metrics={}, input_example=[])
    assert again == first
    assert [version.number for version in registry.versions(name)] == [1, 2]
    assert other == registry.versions(name)[1]


def _register(tracking_uri: str, artifacts: Path, bundle: Path, name: str) -> int:
    registry = Registry(tracking_uri, artifacts)
    return registry.register(Bundle.open(bundle), name=name, metrics={}, input_example=[]).number


def test_two_processes_at_once_make_one_version(registry: Registry, name: str, tmp_path: Path) -> None:
    bundle = plain_bundle(tmp_path / "bundle")
    arguments = [registry.tracking_uri, registry.artifacts_dir, bundle.path, name]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "mlflow.pyfunc", "lnmt.registry"])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(_register, *([argument] * 2 for argument in arguments))) == [1, 1]
    assert len(registry.versions(name)) == 1


def test_a_registration_that_fails_leaves_no_version_and_can_be_done_again(
    registry: Registry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = plain_bundle(tmp_path / "bundle")

    def full(*anything: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_model", full)
        with pytest.raises(OSError, match="No space left"):
            registry.register(bundle, name=name, metrics={}, input_example=[])
    assert registry.versions(name) == []
    runs = registry.client.search_runs([registry.experiment(name)])
    assert [run.info.status for run in runs] == ["FAILED"]
    assert registry.register(bundle, name=name, metrics={}, input_example=[]).number == 1


def test_versions_of_other_makers_are_passed_over(registry: Registry, name: str, tmp_path: Path) -> None:
    registry.client.create_registered_model(name)
    registry.client.create_model_version(name, str(tmp_path))
    assert registry.versions(name) == []
    version = registry.register(plain_bundle(tmp_path / "bundle"), name=name, metrics={}, input_example=[])
    assert version.number == 2


def test_aliases_follow_the_deployment(registry: Registry, name: str, tmp_path: Path) -> None:
    one, two = (
        registry.register(plain_bundle(tmp_path / content, content), name=name, metrics={}, input_example=[]).bundle
        for content in ("one", "two")
    )

    def aliases() -> list[tuple[str, ...]]:
        return [version.aliases for version in registry.versions(name)]

    assert aliases() == [(), ()]
    assert registry.project_aliases(Live(name, 1, one)) == {"champion": 1}
    assert aliases() == [("champion",), ()]
    canary = Live(name, 2, one, two)
    for _ in range(2):
        assert registry.project_aliases(canary) == {"champion": 1, "challenger": 2}
        assert aliases() == [("champion",), ("challenger",)]
    assert registry.project_aliases(Live(name, 3, two)) == {"champion": 2}
    assert aliases() == [(), ("champion",)]


def test_an_older_deployment_does_not_take_the_aliases_back(registry: Registry, name: str, tmp_path: Path) -> None:
    one, two = (
        registry.register(plain_bundle(tmp_path / content, content), name=name, metrics={}, input_example=[]).bundle
        for content in ("one", "two")
    )
    registry.project_aliases(Live(name, 5, two))
    assert registry.project_aliases(Live(name, 4, one, two)) == {"champion": 2}
    assert [version.aliases for version in registry.versions(name)] == [(), ("champion",)]


def test_what_is_not_registered_has_no_alias(registry: Registry, name: str, tmp_path: Path) -> None:
    assert registry.project_aliases(Live(name, 1, "sha256:a")) == {}
    version = registry.register(plain_bundle(tmp_path / "bundle"), name=name, metrics={}, input_example=[])
    assert registry.project_aliases(Live(name, 2, version.bundle)) == {"champion": 1}
    assert registry.project_aliases(Live(name, 3, "sha256:unknown")) == {}
    assert registry.versions(name)[0].aliases == ()


def test_readers_and_the_writer_do_not_lock_each_other_out(registry: Registry) -> None:
    with closing(sqlite3.connect(registry.tracking_uri.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_lock_that_is_never_given_back_is_transient(
    registry: Registry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.01)
    bundle = plain_bundle(tmp_path / "bundle")
    with registry._lock(), pytest.raises(Transient, match="another process was registering"):
        Registry(registry.tracking_uri, registry.artifacts_dir).register(
            bundle, name=name, metrics={}, input_example=[]
        )


def test_a_deleted_experiment_is_for_a_person(registry: Registry, name: str, tmp_path: Path) -> None:
    registry.client.delete_experiment(registry.experiment(name))
    with pytest.raises(LnmtError, match="the experiment was deleted") as caught:
        registry.register(plain_bundle(tmp_path / "bundle"), name=name, metrics={}, input_example=[])
    assert "mlflow experiments restore" in str(caught.value.fix)


def test_a_tracking_uri_that_is_none_is_for_a_person(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="MLflow refused") as caught:
        Registry("gopher://user:hunter2@nowhere", tmp_path).versions("m")
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, Transient)


def test_a_database_that_is_none_is_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(LnmtError, match="the database cannot be used"):
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path).versions("m")


def test_nothing_is_said_and_no_global_is_changed(
    registry: Registry, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.register(plain_bundle(tmp_path / "bundle"), name=name, metrics=METRICS, input_example=EXAMPLE)
    assert capfd.readouterr() == ("", "")
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("macro_f1", "macro_f1"), ("f1[domain=film]", "f1_domain_film_"), ("a/b.c-d e", "a/b.c-d e"), ("ä:b", "ä_b")],
)
def test_metric_names_are_made_to_fit(name: str, allowed: str) -> None:
    assert metric_name(name) == allowed
