from __future__ import annotations

import numpy as np

from benchmarks.engine_bench.contenders import STATIC, Contender, arithmetic, label
from benchmarks.engine_bench.goals import Goal, judge
from benchmarks.engine_bench.measure import Budget, Cell, Result, measure_cell
from benchmarks.engine_bench.models import BERT_BASE, GPT2, full_rows
from benchmarks.engine_bench.sentences import sliced
from lnmt.optimization.candidate import REFERENCE, Candidate
from lnmt.progress import Progress
from lnmt.types import Batch


def result(engine: str, ms: float, *, rows: int, eager_ms: float, ours: bool = True) -> Result:
    return Result(
        engine,
        ours,
        "int8",
        ms,
        (ms, ms),
        1000 * rows / ms,
        eager_ms / ms,
        (eager_ms / ms, eager_ms / ms),
        peak_share=0.4,
        against_best=(0.9, 0.95),
    )


def test_operations_of_bert_base() -> None:
    # 12 layers of 4·768² + 2·768·3072 weights, each multiplied and added; attention reads each of 128 tokens twice
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert BERT_BASE.operations(2, 128) == 2 * 2 * 128 * (weights + 2 * 12 * 128 * 768)


def test_gpt2_counts_its_output_layer() -> None:
    assert GPT2.products()[-1] == (768, 50_257, 1)


def test_full_rows_have_no_padding() -> None:
    batch = full_rows(BERT_BASE, 3, 64, np.random.default_rng(0))
    assert batch.input_ids.shape == (3, 64)
    assert batch.attention_mask.all()
    assert batch.input_ids.min() >= 1000


def test_labels_leave_digests_out_and_keep_settings() -> None:
    quantised = Candidate("openvino", "bf16", (STATIC,), {"streams": 2, "group_rows": 8})
    assert label(quantised) == "openvino-bf16+static_int8 group_rows=8 streams=2"
    assert arithmetic(quantised) == "int8"
    assert (arithmetic(Candidate("torch", "bf16")), arithmetic(REFERENCE)) == ("bf16", "fp32")


def test_a_goal_says_what_the_machine_allows() -> None:
    assert Goal("a", 10, 10, "×").verdict == "met"
    assert Goal("a", 10, 5, "×", ceiling=11).verdict == "missed by 50%"
    assert (
        Goal("a", 10, 4, "×", ceiling=5).verdict == "missed by 60%; out of reach here, where products alone allow 5 ×"
    )


def test_goals_are_judged_by_the_fastest_of_ours() -> None:
    rows, eager_ms = 16, 1000.0
    results = [
        result("OpenVINO as it comes", 90, rows=rows, eager_ms=eager_ms, ours=False),
        result("openvino-bf16+static_int8", 100, rows=rows, eager_ms=eager_ms),
        result(REFERENCE.name, eager_ms, rows=rows, eager_ms=eager_ms),
    ]
    cell = Cell("BERT-Base", 128, rows, 5, gflop=40.0, peaks={"fp32": 100.0, "int8": 800.0}, results=results)
    found = {goal.what: goal for goal in judge([cell])}
    speedup = found["BERT-Base, 16 × 128: × eager fp32"]
    assert (speedup.reached, speedup.wanted, speedup.ceiling) == (10.0, 10.0, 20.0)
    assert found["BERT-Base, 16 × 128: share of the GEMM peak"].reached == 0.4
    assert not found["BERT-Base, 16 × 128: not slower than ONNX Runtime and OpenVINO as they come"].met
    assert not [what for what in found if "specification" in what]  # at length 128 it is asked for at batch 1 alone


class Work:
    """Engines that take so many seconds by a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: set[str] = set()

    def contender(self, name: str, seconds: float, least_rows: int = 1) -> Contender:
        def infer(batch: Batch) -> None:
            self.seen.add(name)
            self.now += seconds

        return Contender(name, "fp32", infer, ours=True, least_rows=least_rows)

    def measure(self, contenders: list[Contender]) -> Cell:
        batch = full_rows(BERT_BASE, 2, 8, np.random.default_rng(0))
        cell = Cell("BERT-Base", 8, 2, 0, gflop=1.0, peaks={"fp32": 2.0}, results=[])
        named = {one.name: one for one in contenders}
        rng, quiet = np.random.default_rng(0), Progress(show=False)
        return measure_cell(cell, named, [batch], Budget(0.0, 30), rng, quiet, clock=lambda: self.now)


def test_a_cell_tells_times_ratios_and_shares_of_the_peak() -> None:
    work = Work()
    found = work.measure(
        [work.contender(REFERENCE.name, 4.0), work.contender("fast", 1.0), work.contender("grouped", 0.5, least_rows=9)]
    )
    assert found.rounds == 5
    assert [(one.engine, one.ms, one.speedup, one.peak_share) for one in found.results] == [
        ("fast", 1000.0, 4.0, 0.5),
        (REFERENCE.name, 4000.0, 1.0, 0.125),
    ]
    assert found.best.engine == "fast"
    assert found.best.requests_per_s == 2.0
    assert found.eager.against_best == (4.0, 4.0)
    assert found.ceiling_ms == 500.0
    assert "grouped" not in work.seen  # a batch of 2 rows is not cut


def test_what_takes_far_longer_than_eager_is_left_out() -> None:
    work = Work()
    found = work.measure([work.contender(REFERENCE.name, 1.0), work.contender("slow", 3.5)])
    assert [one.engine for one in found.results] == [REFERENCE.name]
    assert found.left_out == {"slow": 3.5}


def test_many_texts_are_padded_slice_by_slice() -> None:
    shapes: list[tuple[int, ...]] = []
    one = Contender("a", "fp32", lambda batch: shapes.append(batch.input_ids.shape), ours=False)
    grouped = Contender("b", "fp32", one.infer, ours=True, least_rows=9)
    mask = np.zeros((40, 20), dtype=np.int64)
    mask[:32, :12], mask[32:, :7] = 1, 1
    used = sliced({"a": one, "b": grouped})
    used["a"].infer(Batch(mask, mask))
    assert shapes == [(32, 12), (8, 7)]
    assert used["b"] is grouped
