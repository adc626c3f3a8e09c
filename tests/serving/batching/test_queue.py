from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.runtime.options import Options
from lnmt.serving.batching.queue import FairQueue
from lnmt.serving.batching.row import Item, Job


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def job(loop: asyncio.AbstractEventLoop, owner: str, *widths: int) -> list[Item]:
    """The rows of one request."""
    made = Job(owner, math.inf, loop, loop.create_future(), [None] * len(widths), len(widths))
    return [Item(made, place, [1] * width, width, 0.0, None) for place, width in enumerate(widths)]


def anything(padding: int) -> bool:
    return True


def nothing(padding: int) -> bool:
    return padding == 0


def test_rows_of_like_length_share_a_batch(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=100, batch_rows=3, batch_tokens=10_000)
    items = job(loop, "a", 64, 8, 8, 64, 16, 64)
    queue.put(items)
    assert queue.take(anything) == [items[0], items[3], items[5]]
    assert sorted(item.width for item in queue.take(anything)) == [8, 8, 16]
    assert queue.take(anything) == []


def test_padding_that_is_not_worth_it_is_left_for_another_batch(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=100, batch_rows=32, batch_tokens=10_000)
    queue.put(job(loop, "a", 8, 64, 8, 8, 64))
    assert [item.width for item in queue.take(nothing)] == [8, 8, 8]
    assert [item.width for item in queue.take(nothing)] == [64, 64]


def test_a_batch_has_a_bound_in_tokens(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=100, batch_rows=32, batch_tokens=100)
    queue.put(job(loop, "a", 512, 32, 32, 32, 32))
    assert [item.width for item in queue.take(anything)] == [512]  # a longer row runs alone
    assert [item.width for item in queue.take(anything)] == [32, 32, 32]


def test_owners_take_turns(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=1000, batch_rows=1, batch_tokens=10_000)
    queue.put(job(loop, "heavy", *[8] * 50))
    queue.put(job(loop, "light", 8, 8, 8))
    order = [queue.take(anything)[0].job.owner for _ in range(6)]
    assert order == ["heavy", "light", "heavy", "light", "heavy", "light"]


def test_turns_are_counted_in_tokens(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=1000, batch_rows=1, batch_tokens=10_000)
    queue.put(job(loop, "long", *[64] * 3))
    queue.put(job(loop, "short", *[8] * 30))
    order = [queue.take(anything)[0].job.owner for _ in range(18)]
    assert order.count("long") == 2
    assert order.count("short") == 16


def test_a_full_queue_refuses_who_fills_it(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=10, batch_rows=32, batch_tokens=10_000)
    for _ in range(10):
        queue.put(job(loop, "heavy", 8))
    assert queue.room("heavy", 1) is None
    assert queue.room("light", 20) is None


def test_the_heaviest_gives_way_with_its_newest(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=10, batch_rows=32, batch_tokens=10_000)
    jobs = [job(loop, "heavy", 8, 8) for _ in range(5)]
    for items in jobs:
        queue.put(items)
    assert queue.room("light", 3) == [jobs[4][0].job, jobs[3][0].job]
    dropped = queue.drop(lambda item: item.job in {jobs[4][0].job, jobs[3][0].job})
    assert len(dropped) == 4
    assert len(queue) == 6


def test_no_row_joins_that_would_come_too_late_or_make_another_late(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=100, batch_rows=32, batch_tokens=10_000)
    lenient, strict = job(loop, "a", 8, 8, 8, 8), job(loop, "b", 8)
    strict[0].job.deadline = 2.5
    queue.put(lenient)
    queue.put(strict)
    queue.put(job(loop, "c", 8))
    batch = queue.take(anything, lambda padded, rows: float(rows))  # a second a row
    assert [item.job.owner for item in batch] == ["a", "a", "a", "a", "c"]  # "b" would be the third at best
    assert queue.take(anything, lambda padded, rows: float(rows)) == strict


def test_the_head_is_never_made_late(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=100, batch_rows=32, batch_tokens=10_000)
    head = job(loop, "a", 8)
    head[0].job.deadline = 2.0
    queue.put(head)
    queue.put(job(loop, "b", 8, 8))
    assert len(queue.take(anything, lambda padded, rows: float(rows))) == 2


def test_a_long_list_is_taken_when_nothing_waits(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue(rows=10, batch_rows=32, batch_tokens=10_000)
    assert queue.room("a", 1000) == []


@given(
    requests=st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from([8, 16, 24, 64, 512]), min_size=1, max_size=6)),
        max_size=30,
    ),
    batch_rows=st.integers(1, 8),
    group_rows=st.none() | st.integers(1, 4),
    allowed=st.integers(0, 200),
)
def test_every_row_leaves_once_and_no_batch_is_too_large(
    requests: list[tuple[str, list[int]]], batch_rows: int, group_rows: int | None, allowed: int
) -> None:
    loop = asyncio.new_event_loop()
    queue = FairQueue(rows=1000, batch_rows=batch_rows, batch_tokens=1024, options=Options(group_rows))
    put = [item for owner, widths in requests for item in job(loop, owner, *widths)]
    for item_job in {id(item.job): item.job for item in put}.values():
        queue.put([item for item in put if item.job is item_job])
    left: list[Item] = []
    first = {owner: next((item for item in put if item.job.owner == owner), None) for owner in "abc"}
    rounds = 0
    while batch := queue.take(lambda padding: padding <= allowed):
        rounds += 1
        assert len(batch) <= batch_rows
        assert [item.width for item in batch] == sorted((item.width for item in batch), reverse=True)
        left += batch
        if rounds == 3:  # nobody's first row waits for more than one batch of each other owner
            assert all(item is None or item in left for item in first.values())
    loop.close()
    assert len(left) == len(put) == len({id(item) for item in left})
    assert len(queue) == 0
