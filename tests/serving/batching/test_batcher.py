"""The batcher on real tiny engines. Answers come from several event loops, as from several test clients."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lnmt.bundles import Bundle
from lnmt.runtime.predictor import Predictor
from lnmt.serving.batching.batcher import Batcher, Observer
from lnmt.serving.batching.policy import Reason
from lnmt.serving.batching.row import Expired, Left, QueueFull, Retired, Row
from lnmt.serving.limits import Limits
from lnmt.types import Batch, Output
from tests.serving.conftest import wait_until

WORDS = ["good", "awful", "okay", "the", "film", "plot", "was", "a", "dull", "book", "great", "not", "very"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)


class Kept(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.reasons: list[Reason] = []

    def batch(
        self, *, rows: int, tokens: int, padded: int, seconds: float, ages_s: Sequence[float], reason: Reason
    ) -> None:
        assert seconds > 0
        assert len(ages_s) == rows
        assert min(ages_s) >= 0
        self.batches.append((rows, tokens, padded))
        self.reasons.append(reason)


class Held:
    """An engine that answers when it is let, and fails on batches that hold a poison token."""

    def __init__(self, predictor: Predictor, poison: str | None = None) -> None:
        self._engine = predictor.engine
        self._poison = None if poison is None else predictor.encode([poison])[0][1]
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.free = poison is not None
        self.batches: list[int] = []

    def infer(self, batch: Batch) -> Output:
        self.batches.append(len(batch.input_ids))
        self.entered.release()
        assert self.free or self.go.acquire(timeout=30)
        if self._poison is not None and (batch.input_ids == self._poison).any():
            raise ValueError("poison")
        return self._engine.infer(batch)

    def load(self, *_: object, **__: object) -> None: ...
    def warm_up(self) -> None: ...
    def close(self) -> None: ...


MakeBatcher = Callable[..., Batcher]


@pytest.fixture
def make_batcher(champion: Bundle, predictors: Callable[[Bundle], Predictor]) -> Iterator[MakeBatcher]:
    made: list[Batcher] = []

    def make(limits: Limits | None = None, *, engine: Held | None = None, observer: Observer | None = None) -> Batcher:
        predictor = predictors(champion) if engine is None else Predictor(champion, engine)
        made.append(Batcher(predictor, limits or Limits(), observer))
        return made[-1]

    yield make
    for batcher in made:
        if isinstance(batcher.predictor.engine, Held):
            batcher.predictor.engine.free = True
            batcher.predictor.engine.go.release(100)
        batcher.retire()
        assert batcher.join(30)


def ask(batcher: Batcher, texts: Sequence[str], owner: str = "local", deadline: float = math.inf) -> list[Row]:
    return asyncio.run(batcher.answer(texts, owner, deadline))


async def ask_together(batcher: Batcher, requests: Sequence[Sequence[str]]) -> list[list[Row]]:
    return await asyncio.gather(*(batcher.answer(texts) for texts in requests))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=12), batch_rows=st.integers(1, 9)
)
def test_every_text_gets_its_own_answer_in_every_company(
    make_batcher: MakeBatcher,
    champion: Bundle,
    predictors: Callable[[Bundle], Predictor],
    requests: list[list[str]],
    batch_rows: int,
) -> None:
    batcher = make_batcher(Limits(batch_rows=batch_rows))
    answers = asyncio.run(ask_together(batcher, requests))
    for asked, rows in zip(requests, answers, strict=True):
        alone = predictors(champion).predict(asked, batch_size=1)
        for row, expected in zip(rows, alone, strict=True):
            assert row.prediction is not None
            assert row.prediction.tokens == expected.tokens
            assert row.prediction.scores == pytest.approx(expected.scores, abs=1e-5)
            assert row.batch_rows <= batch_rows
            assert row.padded_tokens >= row.prediction.tokens
    batcher.retire()
    assert batcher.join(30)


def test_what_came_meanwhile_goes_together(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held, kept = Held(predictors(champion)), Kept()
    batcher = make_batcher(engine=held, observer=kept)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(ask, batcher, ["okay"])
        assert held.entered.acquire(timeout=30)
        later = [pool.submit(ask, batcher, ["okay"]) for _ in range(5)]
        wait_until(lambda: batcher.waiting_rows == 6)
        held.go.release(2)
        assert first.result(30)[0].batch_rows == 1
        assert [run.result(30)[0].batch_rows for run in later] == [5] * 5
    assert held.batches == [1, 5]
    wait_until(lambda: len(kept.batches) == 2)
    assert [rows for rows, _, _ in kept.batches] == [1, 5]
    assert kept.reasons[0] == "nobody else"
    assert batcher.waiting_rows == 0


def test_poison_is_found_by_halves(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    engine = Held(predictors(champion), poison="awful")
    batcher = make_batcher(engine=engine)
    rows = ask(batcher, ["okay"] * 5 + ["awful"] + ["okay"] * 10)
    assert [type(row.error).__name__ for row in rows] == ["NoneType"] * 5 + ["ValueError"] + ["NoneType"] * 10
    assert sorted(engine.batches, reverse=True) == [16, 8, 8, 4, 4, 2, 2, 1, 1]
    assert batcher.cost.batches == 0  # it teaches nothing of time


def test_an_output_of_another_shape_is_the_batchs_failure_and_not_the_ends(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    class Short(Held):
        def infer(self, batch: Batch) -> Output:
            output = super().infer(batch)
            return Output(output.logits[:-1], output.pooled) if len(batch.input_ids) > 1 else output

    batcher = make_batcher(engine=Short(predictors(champion), poison="awful"))
    assert [row.error for row in ask(batcher, ["okay", "good", "great"])] == [None] * 3  # each alone
    assert ask(batcher, ["okay"])[0].error is None


def test_no_more_waits_than_can_be_answered_in_time(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(Limits(batch_rows=4, waiting_rows=1000, queue_s=0.5))
    batcher.cost.seconds = lambda tokens, rows: 0.1  # type: ignore[method-assign]
    for _ in range(12):
        ask(batcher, ["okay"])
    wait_until(lambda: batcher.waiting_rows == 0)
    assert batcher._queue.bound == 20  # five batches of four


def test_a_text_that_cannot_be_encoded_harms_no_other(
    make_batcher: MakeBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher()
    encode = batcher.predictor.encode

    def broken(texts: Sequence[str]) -> list[list[int]]:
        if "awful" in texts:
            raise RuntimeError("a plugin")
        return encode(texts)

    monkeypatch.setattr(batcher.predictor, "encode", broken)
    rows = ask(batcher, ["okay", "awful"])
    assert rows[0].error is None
    assert isinstance(rows[1].error, RuntimeError)
    assert isinstance(ask(batcher, ["awful"])[0].error, RuntimeError)


def test_a_deadline_is_kept_behind_a_slow_engine(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held = Held(predictors(champion))
    batcher = make_batcher(engine=held)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, batcher, ["okay"])
        assert held.entered.acquire(timeout=30)
        with pytest.raises(Expired):
            ask(batcher, ["okay", "good"], deadline=now() + 0.01)
        held.go.release()
        first.result(30)
    wait_until(lambda: batcher.waiting_rows == 0)
    assert held.batches == [1]  # the late ones were never run


def test_an_answer_that_is_expected_too_late_is_not_begun(make_batcher: MakeBatcher) -> None:
    kept = Kept()
    batcher = make_batcher(observer=kept)
    for _ in range(12):
        ask(batcher, ["okay"])
    batcher.cost.seconds = lambda tokens, rows: 3600.0  # type: ignore[method-assign]
    with pytest.raises(Expired):
        ask(batcher, ["okay"], deadline=now() + 60)
    wait_until(lambda: len(kept.batches) == 12)
    assert len(kept.batches) == 12


def test_a_client_who_hangs_up_leaves_no_slot(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held = Held(predictors(champion))
    batcher = make_batcher(engine=held)

    async def hang_up() -> None:
        first = asyncio.create_task(batcher.answer(["okay"]))
        await asyncio.to_thread(held.entered.acquire, timeout=30)
        others = [asyncio.create_task(batcher.answer(["okay"])) for _ in range(20)]
        while batcher.waiting_rows < 21:
            await asyncio.sleep(0)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        held.go.release()
        await first

    asyncio.run(hang_up())
    wait_until(lambda: batcher.waiting_rows == 0)
    assert held.batches == [1]


def test_who_has_gone_is_not_worked_for(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held = Held(predictors(champion))
    batcher = make_batcher(engine=held)

    async def ask_and_go() -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        first = asyncio.create_task(batcher.answer(["okay"], gone=gone))
        await asyncio.to_thread(held.entered.acquire, timeout=30)
        waiting = asyncio.create_task(batcher.answer(["good", "okay"], gone=gone))
        stays = asyncio.create_task(batcher.answer(["okay"]))
        while batcher.waiting_rows < 4:
            await asyncio.sleep(0)
        gone.set_result(None)
        for left in (first, waiting):
            with pytest.raises(Left):
                await left
        held.go.release(2)
        [row] = await stays
        assert row.prediction is not None
        with pytest.raises(Left):  # whoever has gone already
            await batcher.answer(["okay"], gone=gone)

    asyncio.run(ask_and_go())
    wait_until(lambda: batcher.waiting_rows == 0)
    assert held.batches == [1, 1]


def test_the_heaviest_gives_way(
    make_batcher: MakeBatcher, champion: Bundle, predictors: Callable[[Bundle], Predictor]
) -> None:
    held = Held(predictors(champion))
    batcher = make_batcher(Limits(waiting_rows=4), engine=held)

    async def crowd() -> list[object]:
        first = asyncio.create_task(batcher.answer(["okay"], "heavy"))
        await asyncio.to_thread(held.entered.acquire, timeout=30)
        heavy = [asyncio.create_task(batcher.answer(["okay"], "heavy")) for _ in range(4)]
        while batcher.waiting_rows < 5:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.answer(["okay"], "heavy")
        light = asyncio.create_task(batcher.answer(["good"], "light"))
        await asyncio.wait([heavy[3]])
        held.go.release(10)
        return await asyncio.gather(first, *heavy, light, return_exceptions=True)

    found = asyncio.run(crowd())
    assert [isinstance(answer, QueueFull) for answer in found] == [False, False, False, False, True, False]


def test_a_retired_batcher_finishes_and_takes_nothing_more(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher()
    assert ask(batcher, ["okay"])[0].error is None
    batcher.retire()
    assert batcher.join(30)
    with pytest.raises(Retired):
        ask(batcher, ["okay"])


def now() -> float:
    import time

    return time.monotonic()
