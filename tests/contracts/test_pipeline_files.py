"""dvc.yaml, the Prefect tasks and flows, and prefect.yaml say what lnmt/stages.py says."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp
import pytest
import yaml

from lnmt.drive.dvc_file import render
from lnmt.init.edits import Edit, shipped
from lnmt.init.project import DVC_CONFIG, DVC_IGNORE
from lnmt.params import Params, load_params
from lnmt.stages import STAGES, Stage

if TYPE_CHECKING:
    from grimp import ImportGraph

NAMES = [stage.name for stage in STAGES]

# What every stage stands on, and what is verified by digest wherever it is read: no change of it changes an artifact.
GROUND = ("errors", "files", "params", "plugins", "progress", "public", "telemetry", "types", "hub", "bundles")


def test_dvc_yaml_is_the_table(repository: Path) -> None:
    assert (repository / "dvc.yaml").read_text() == render(code=True), "python -m lnmt.drive.dvc_file > dvc.yaml"


def test_dvc_is_set_up_as_in_a_new_project(repository: Path) -> None:
    assert (repository / ".dvc/config").read_text() == DVC_CONFIG
    assert (repository / ".dvcignore").read_text() == DVC_IGNORE


@pytest.mark.parametrize("stage", STAGES, ids=NAMES)
def test_a_stage_reads_what_is_written_before_it(stage: Stage) -> None:
    written = {path for before in STAGES[: NAMES.index(stage.name)] for path in before.writes}
    assert set(stage.reads) <= written | {"data/incoming", "data/production"}
    assert not set(stage.reads) & set(stage.writes)


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return grimp.build_graph("lnmt", exclude_type_checking_imports=True)


@pytest.mark.parametrize("stage", STAGES, ids=NAMES)
def test_a_stage_names_all_code_that_it_runs(stage: Stage, graph: ImportGraph) -> None:
    module = stage.function.partition(":")[0]
    ran = {name.replace(".", "/") for name in graph.find_upstream_modules(module) | {module}}
    ground = {f"lnmt/{name}" for name in GROUND}
    named = {path.removesuffix(".py") for path in stage.code} | ground
    assert {
        path for path in ran if path != "lnmt" and not any(f"{path}/".startswith(f"{one}/") for one in named)
    } == set()


@pytest.mark.parametrize("stage", STAGES, ids=NAMES)
def test_a_stage_names_code_and_sections_that_are_there(stage: Stage, repository: Path) -> None:
    assert [path for path in stage.code if not (repository / path).exists()] == []
    assert set(stage.sections) <= set(Params.model_fields)
    module, _, function = stage.function.partition(":")
    tree = ast.parse((repository / (module.replace(".", "/") + ".py")).read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert function == stage.name


def test_git_ignores_what_stages_write(repository: Path) -> None:
    ignored = (repository / ".gitignore").read_text().splitlines()
    for path in (path for stage in STAGES for path in stage.writes):
        assert f"/{path}" in ignored or f"/{path.partition('/')[0]}/" in ignored
    assert not any("dvc.lock" in line for line in ignored)


def test_every_stage_is_a_task_and_a_step_of_the_train_flow() -> None:
    from flows.train import train
    from tasks import stages

    assert [getattr(stages, name).name for name in NAMES] == NAMES
    calls = [
        node.func.attr
        for node in ast.walk(ast.parse(Path(train.fn.__code__.co_filename).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert calls == NAMES


def test_tasks_are_never_cached_by_prefect_and_retry_only_what_may_go_through() -> None:
    from prefect.cache_policies import NO_CACHE

    from tasks import actions, stages
    from tasks.policy import is_transient, tell_failure

    everything = [getattr(stages, name) for name in NAMES]
    everything += [actions.register, actions.release, actions.judge, actions.monitor, actions.predict]
    for task in everything:
        assert task.cache_policy == NO_CACHE
        assert task.retries == 3
        assert task.retry_condition_fn is is_transient
        assert task.on_failure_hooks == [tell_failure]
        assert task.timeout_seconds > 0
        assert "lnmt" in task.tags


def deployments(repository: Path) -> list[dict[str, Any]]:
    content: dict[str, list[dict[str, Any]]] = yaml.safe_load((repository / "prefect.yaml").read_text())
    return content["deployments"]


def test_every_flow_is_deployed(repository: Path) -> None:
    flows = sorted(path.stem for path in (repository / "flows").glob("*.py") if path.stem != "__init__")
    assert sorted(entry["entrypoint"] for entry in deployments(repository)) == [f"flows.{x}.{x}" for x in flows]
    for entry in deployments(repository):
        assert entry["name"] == "default"
        assert "lnmt" in entry["tags"]
        assert entry["work_pool"]["name"] == "lnmt"


def test_the_schedules_are_those_that_the_docs_promise(repository: Path) -> None:
    schedules = {
        entry["entrypoint"].rpartition(".")[2]: [
            {k: v for k, v in s.items() if k in {"cron", "interval"}} for s in found
        ]
        for entry in deployments(repository)
        if (found := entry.get("schedules"))
    }
    assert schedules == {"lifecycle": [{"cron": "0 2 * * *"}], "monitor": [{"interval": 900}]}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("flows/*.py")), ids=lambda path: path.stem)
def test_a_flow_is_a_few_named_steps(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 30


def test_the_shipped_parameters_are_those_of_the_repository(repository: Path) -> None:
    assert load_params(repository / "params.yaml").name == "sentiment"
    for name in ("params.yaml", "prefect.yaml"):
        assert shipped(name) == (repository / name).read_text()
    assert Edit().text() == shipped("params.yaml")
