from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.plan import STREAMING
from lnmt.runtime import ENGINES as TABLE
from lnmt.runtime.grouping import Arrays, cut, join
from lnmt.runtime.predictor import Predictor
from lnmt.types import PER_TOKEN, Batch, Precision, Task
from tests.runtime.conftest import ENGINES
from tests.task_bundle import task_bundle
from tests.task_kit import TASKS


def batch_of(lengths: list[int], width: int) -> Batch:
    """Rows of these lengths; the token at place t of row b is 100 b + t + 1, padding is 0."""
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = (100 * np.arange(len(lengths))[:, None] + np.arange(width) + 1) * mask
    return Batch(ids, mask)


def test_rows_of_like_length_are_together_the_longest_first() -> None:
    batch = batch_of([3, 20, 9, 1, 17], 24)
    groups = cut(batch, 2, 8)
    assert [group.places.tolist() for group in groups] == [[1, 4], [2, 0], [3]]
    assert [group.batch.input_ids.shape for group in groups] == [(2, 24), (2, 16), (1, 8)]
    for group in groups:
        np.testing.assert_array_equal(
            group.batch.input_ids, batch.input_ids[group.places, : group.batch.input_ids.shape[1]]
        )
        assert group.batch.input_ids.flags.c_contiguous


@pytest.mark.parametrize("group_rows", [None, 5, 6])
def test_what_need_not_be_cut_is_the_batch_itself(group_rows: int | None) -> None:
    batch = batch_of([3, 20, 9, 1, 17], 24)
    [group] = cut(batch, group_rows, 8)
    assert group.batch is batch
    logits, pooled = np.ones((5, 2), np.float32), np.ones((5, 4), np.float32)
    assert join([group], [(logits, pooled)], batch, "text-classification")[0] is logits


def test_a_group_is_never_wider_than_its_batch_nor_empty() -> None:
    assert [group.batch.input_ids.shape for group in cut(batch_of([13, 0, 12], 13), 1, 8)] == [(1, 13), (1, 13), (1, 8)]


def test_a_hole_in_a_row_is_kept() -> None:
    mask = np.array([[1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    groups = cut(Batch(mask.copy(), mask), 1, 2)
    assert [group.batch.attention_mask.tolist() for group in groups] == [[[1, 0, 0, 1]], [[1, 1]]]


def answer(batch: Batch, task: Task) -> Arrays:
    """What depends on every token of a row, and in no way on padding or neighbours."""
    ids = batch.input_ids.astype(np.float32)
    pooled = np.stack([ids.sum(axis=1), ids.max(axis=1)], axis=1)
    logits = np.stack([ids, 2 * ids], axis=-1) if task in PER_TOKEN else pooled * 3
    return logits, pooled


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    group_rows=st.integers(1, 13),
    multiple=st.sampled_from([1, 4, 8]),
    task=st.sampled_from(TASKS),
)
def test_answers_stand_where_their_rows_stood(lengths: list[int], group_rows: int, multiple: int, task: Task) -> None:
    batch = batch_of(lengths, max(1, *lengths, 30))
    groups = cut(batch, group_rows, multiple)
    assert sorted(np.concatenate([group.places for group in groups]).tolist()) == list(range(len(lengths)))
    found = join(groups, [answer(group.batch, task) for group in groups], batch, task)
    for have, want in zip(found, answer(batch, task), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_an_answer_of_a_wrong_shape_is_refused(rows: int, which: int) -> None:
    batch = batch_of([3, 20, 5, 5], 24)
    groups = cut(batch, 2, 8)
    right = (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
    wrong = [array[:1].repeat(rows, axis=0) if place == which else array for place, array in enumerate(right)]
    with pytest.raises(ValueError, match=r"for a group \(2, 8\)"):
        join(groups, [right, (wrong[0], wrong[1])], batch, "text-classification")


# Every engine, every task.


def with_settings(bundle: Bundle, target: Path, settings: dict[str, object]) -> Bundle:
    draft = {name: getattr(bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(target, Draft(**{**draft, "settings": settings})) as directory:
        for name in bundle.manifest.files:
            (directory / name).write_bytes(bundle.file(name).read_bytes())
    return Bundle.open(target)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Task, Predictor]]:
    root = tmp_path_factory.mktemp("tasks")
    opened = {task: Predictor.open(task_bundle(root / task, task), threads=1) for task in TASKS}
    yield opened
    for predictor in opened.values():
        predictor.close()


def rows_of(vocabulary: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(5, vocabulary, size=size).tolist() for size in (5, 31, 2, 17, 9, 32, 1, 8, 25, 12)]


def run(bundle: Bundle, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    engine = TABLE.get(bundle.manifest.engine)()
    engine.load(bundle, threads=2, cache=None)
    engine.warm_up()
    first, second = engine.infer(batch), engine.infer(batch)
    np.testing.assert_array_equal(first.logits, second.logits)
    engine.close()
    return first.logits, first.pooled


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("engine", "precision"), [pair for pair in ENGINES if pair[1] == "fp32"])
def test_groups_answer_as_the_whole_batch(
    references: dict[Task, Predictor], task: Task, engine: str, precision: Precision, tmp_path: Path
) -> None:
    reference = references[task]
    batch = reference.pad(rows_of(reference.tokenizer.vocabulary))
    source = Source(reference.bundle, reference.bundle.path.with_name(f"{task}.work"))
    draft = {name: getattr(reference.bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(tmp_path / "whole", Draft(**{**draft, "engine": engine, "precision": precision})) as directory:
        (directory / "tokenizer.json").write_bytes(reference.bundle.file("tokenizer.json").read_bytes())
        BACKENDS.get(engine)().build(Candidate(engine, precision), source, directory)
    whole = Bundle.open(tmp_path / "whole")
    expected = run(whole, batch)
    real = batch.attention_mask == 1
    settings: list[dict[str, object]] = [{"group_rows": 3}]
    if engine in STREAMING:
        settings += [{"group_rows": 3, "streams": 2}, {"group_rows": 16, "streams": 2}]
    for index, some in enumerate(settings):
        found = run(with_settings(whole, tmp_path / str(index), some), batch)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
        if task in PER_TOKEN:
            np.testing.assert_allclose(found[0][real], expected[0][real], atol=1e-4)
        else:
            np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
