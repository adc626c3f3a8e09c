from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lnmt.errors import Transient
from lnmt.progress import Progress
from lnmt.registry import Registry, mirroring
from lnmt.registry.live import LiveRun, Point, mirror, points
from lnmt.tail import Tail


def line(step: int, loss: float, time: float = 100.0) -> str:
    return json.dumps({"time": time, "metrics": {"loss": loss}, "step": step}) + "\n"


def turns(*actions: Callable[[], object]) -> Callable[[float], bool]:
    """A `stopped` that does one action a look, and says stop after the last."""
    left: Iterator[Callable[[], object]] = iter(actions)

    def stopped(seconds: float) -> bool:
        action = next(left, None)
        if action is not None:
            action()
        return action is None

    return stopped


def losses(found: Iterable[Any]) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


def test_points_arrive_as_they_are_written(path: Path) -> None:
    seen: list[list[tuple[int, float]]] = []

    def write(text: str) -> Callable[[], object]:
        return lambda: _append(path, text)

    mirror(
        path,
        lambda new: seen.append(losses(new)),
        since=0.0,
        stopped=turns(
            lambda: None,  # there is no file yet
            write(line(1, 0.9) + line(2, 0.8)),
            write(line(3, 0.7)[:20]),
            write(line(3, 0.7)[20:]),
        ),
    )
    assert seen == [[(1, 0.9), (2, 0.8)], [(3, 0.7)]]


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_the_last_points_are_not_lost(path: Path) -> None:
    seen: list[Point] = []

    def stopped(seconds: float) -> bool:
        _append(path, line(7, 0.1))
        return True

    mirror(path, seen.extend, since=0.0, stopped=stopped)
    assert losses(seen) == [(7, 0.1)]


def test_what_an_earlier_run_left_is_passed_over(path: Path) -> None:
    path.write_text(line(1, 0.9, time=50.0) + line(2, 0.8, time=150.0))
    seen: list[Point] = []
    mirror(path, seen.extend, since=100.0, stopped=turns())
    assert losses(seen) == [(2, 0.8)]


@pytest.mark.parametrize("lines", [1, 5])
def test_a_stage_that_starts_over_empties_the_file(path: Path, lines: int) -> None:
    tail = Tail(path)
    path.write_text(line(1, 0.9) + line(2, 0.8))
    assert len(tail.records()) == 2
    path.write_text("".join(line(step, 0.5, time=200.0) for step in range(lines)))
    assert [item["time"] for item in tail.records()] == [200.0] * lines
    assert tail.records() == []


def test_lines_without_metrics_and_torn_ones_are_no_points(path: Path) -> None:
    path.write_text('{"time": 200, "what": "epoch", "done": 3}\n{"time": 200, "metr\n[1]\n' + line(4, 0.5))
    found = [point for item in Tail(path).records() for point in points(item, 0.0)]
    assert found == [Point("loss", 0.5, 4, 100.0)]
    assert points({"time": 1.0, "metrics": {"a": 1, "b": "x", "c": None}}, 0.0) == [Point("a", 1.0, 0, 1.0)]


def test_what_was_refused_is_offered_again(path: Path) -> None:
    path.write_text(line(1, 0.9))
    offered: list[list[tuple[int, float]]] = []

    def log(new: Sequence[Point]) -> None:
        offered.append(losses(new))
        if len(offered) == 1:
            raise Transient("not now")

    mirror(path, log, since=0.0, stopped=turns(lambda: _append(path, line(2, 0.8))))
    assert offered == [[(1, 0.9)], [(1, 0.9), (2, 0.8)]]


def test_what_is_refused_to_the_end_is_an_error(path: Path) -> None:
    path.write_text(line(1, 0.9))

    def log(new: Sequence[Point]) -> None:
        raise Transient("never")

    with pytest.raises(Transient, match="never"):
        mirror(path, log, since=0.0, stopped=turns())


def history(registry: Registry, run: LiveRun, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in registry.client.get_metric_history(run.id, metric)]


def test_a_stages_progress_becomes_a_run(registry: Registry, name: str, path: Path) -> None:
    with mirroring(path, registry, name=name, title="train") as run:
        progress = Progress(path, show=False)
        for step in (10, 20, 30):
            progress.write({"metrics": {"train/loss": 1 / step, "lr": 0.001}, "step": step})
            progress.write({"what": "train", "done": step, "total": 30, "unit": "steps"})
    assert history(registry, run, "train/loss") == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    assert history(registry, run, "lr") == [(10, 0.001), (20, 0.001), (30, 0.001)]
    found = registry.client.get_run(run.id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "train")
    assert found.info.experiment_id == registry.experiment(name)


def test_a_stage_that_fails_fails_its_run(registry: Registry, name: str, path: Path) -> None:
    with pytest.raises(OSError, match="disk"), mirroring(path, registry, name=name, title="train") as run:
        Progress(path, show=False).write({"metrics": {"loss": 2.0}, "step": 1})
        raise OSError("disk")
    assert registry.client.get_run(run.id).info.status == "FAILED"


def test_a_stage_that_had_nothing_to_do_leaves_no_run(registry: Registry, name: str, path: Path) -> None:
    with mirroring(path, registry, name=name, title="train") as run:
        pass
    assert run.id is None
    assert registry.client.search_runs([registry.experiment(name)]) == []


def test_a_stage_goes_on_where_mlflow_cannot(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = Registry("gopher://nowhere", tmp_path)
    with caplog.at_level(logging.WARNING, "lnmt.registry.live"), mirroring(path, away, name="m", title="train"):
        Progress(path, show=False).write({"metrics": {"loss": 2.0}, "step": 1})
    assert [record.message.splitlines()[0] for record in caplog.records] == [
        "live metrics did not reach MLflow: MLflow refused"
    ]
