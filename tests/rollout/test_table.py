from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import event

from lnmt.errors import LnmtError, Transient
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DEPLOYMENTS, HISTORY, DeploymentStore
from lnmt.store import open_engine

FIRST = Deployment("sentiment", 1, "promoted", "sha256:a", None, 0.0, 1_700_000_000.125, "first")
CANARY = Deployment("sentiment", 2, "canary", "sha256:a", "sha256:b", 0.1 + 0.2, 1_700_000_001.5, "übt")


def test_the_keys_are_name_and_generation() -> None:
    assert [column.name for column in DEPLOYMENTS.primary_key] == ["name"]
    assert [column.name for column in HISTORY.primary_key] == ["name", "generation"]


def test_before_the_first_release_there_is_nothing(database_url: str) -> None:
    with DeploymentStore(database_url) as store:
        assert store.read("sentiment") is None
        assert store.history("sentiment") == []
        assert store.at("sentiment", 1) is None
        assert store.names() == []


def test_what_was_swapped_in_is_read_back_exactly_and_kept(database_url: str) -> None:
    with DeploymentStore(database_url) as store:
        assert store.swap(0, FIRST) == FIRST
        assert store.swap(1, CANARY) == CANARY
    with DeploymentStore(database_url) as store:
        assert store.read("sentiment") == CANARY
        assert store.history("sentiment") == [FIRST, CANARY]
        assert store.at("sentiment", 1) == FIRST
        assert store.names() == ["sentiment"]


def test_models_do_not_touch_each_other(database_url: str) -> None:
    other = Deployment("topic", 1, "promoted", "sha256:z", None, 0.0, 1.0, "first")
    with DeploymentStore(database_url) as store:
        store.swap(0, FIRST)
        store.swap(0, other)
        assert store.names() == ["sentiment", "topic"]
        assert store.history("topic") == [other]


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_a_swap_from_another_generation_changes_nothing_and_says_what_is_live(database_url: str, expected: int) -> None:
    with DeploymentStore(database_url) as store:
        store.swap(0, FIRST)
        with pytest.raises(Transient, match="changed by another writer") as caught:
            store.swap(expected, CANARY)
        assert caught.value.value == "generation 1, promoted, champion sha256:a, since 1700000000: first"
        assert caught.value.allowed == f"generation {expected}"
        assert store.history("sentiment") == [FIRST]


def test_the_conflict_shows_a_running_canary(store: DeploymentStore) -> None:
    store.swap(0, FIRST)
    store.swap(1, CANARY)
    with pytest.raises(Transient, match=r"canary, champion sha256:a, challenger sha256:b with share 0.3, since"):
        store.swap(1, FIRST)


def test_a_swap_from_a_generation_of_nothing_is_a_conflict(database_url: str) -> None:
    with DeploymentStore(database_url) as store, pytest.raises(Transient) as caught:
        store.swap(1, CANARY)
    assert caught.value.value == "nothing"


def test_what_can_never_be_live_is_refused(store: DeploymentStore) -> None:
    with pytest.raises(LnmtError, match="not a deployment that can be live") as caught:
        store.swap(0, Deployment("sentiment", 1, "promoted", "sha256:a", "sha256:b", 0.5, 1.0, ""))
    assert caught.value.allowed == "a challenger is live in a canary, and only there"
    assert store.read("sentiment") is None


def test_row_and_history_change_together(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'lnmt.db'}")
    store = DeploymentStore(engine)
    store.swap(0, FIRST)

    @event.listens_for(engine, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("INSERT INTO deployment_history"):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        store.swap(1, CANARY)
    event.remove(engine, "before_cursor_execute", fail)
    assert store.read("sentiment") == FIRST
    assert store.history("sentiment") == [FIRST]
    engine.dispose()


def test_a_store_leaves_an_engine_that_it_was_given_open(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'lnmt.db'}")
    with DeploymentStore(engine) as store:
        store.swap(0, FIRST)
    assert DeploymentStore(engine).read("sentiment") == FIRST
    engine.dispose()


def _try(database_url: str, writer: str, turns: int) -> int:
    """One of several writers: `turns` swaps from whatever is live; returns how many went through."""
    done = 0
    with DeploymentStore(database_url) as store:
        for _ in range(turns):
            live = store.read("sentiment")
            generation = 0 if live is None else live.generation
            new = Deployment("sentiment", 0, "promoted", f"sha256:{writer}", None, 0.0, 1.0, writer)
            with suppress(Transient):
                done += store.swap(generation, new).generation == generation + 1
    return done


def test_of_writers_at_once_each_generation_has_one(database_url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.rollout.test_table", "lnmt.rollout.table", "psycopg"])
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        done = list(pool.map(_try, [database_url] * 4, "abcd", [12] * 4))
    with DeploymentStore(database_url) as store:
        history = store.history("sentiment")
        assert store.read("sentiment") == history[-1]
    assert [state.generation for state in history] == list(range(1, len(history) + 1))
    assert [sum(state.why == writer for state in history) for writer in "abcd"] == done
