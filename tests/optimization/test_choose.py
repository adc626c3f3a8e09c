from __future__ import annotations

from dataclasses import replace

import pytest

from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.optimization.choose import Choice, choose, differs, pick_finalists
from lnmt.params import OptimizeParams, Plugin
from tests.optimization.conftest import quick
from tests.optimization.kit import measured

OPTIONS = quick(budget={"max_flip_share": 0.01, "max_metric_loss": 0.005}).optimize
FAST = Candidate("openvino", "bf16")
FASTER = Candidate("onnxruntime", "fp32")
SMALL = Candidate("openvino", "bf16", (Plugin(name="static_int8"),))
TORCH = measured(REFERENCE, 10.0, low=1.0)


def chosen(*finalists: Measurement, options: OptimizeParams = OPTIONS, refused: dict[str, str] | None = None) -> Choice:
    return choose(TORCH, [TORCH, *finalists], finalists, refused or {}, options)


def objective(measure: str) -> OptimizeParams:
    return quick(objective={"measure": measure, "batch_size": 1}).optimize


def test_the_fastest_that_is_right_wins() -> None:
    choice = chosen(measured(FAST, 4.0), measured(FASTER, 3.0))
    assert choice.winner == FASTER
    assert choice.why == (
        "fastest at batch size 1: 3.00 ms (median), 3.33× the reference (1.50…2.50 at 95% confidence)"
    )
    assert choice.lost == {
        "torch-fp32": "right, but 10.00 ms (median) where onnxruntime-fp32 has 3.00 ms (median)",
        "openvino-bf16": "right, but 4.00 ms (median) where onnxruntime-fp32 has 3.00 ms (median)",
    }


def test_what_was_not_certified_does_not_ship_whatever_its_speed() -> None:
    choice = chosen(measured(FAST, 4.0), measured(FASTER, 3.0), refused={FASTER.name: "flips: 40 of 1000"})
    assert choice.winner == FAST
    assert choice.lost[FASTER.name] == "flips: 40 of 1000"


def test_flips_and_lost_f1_on_validation_rule_out() -> None:
    assert differs(measured(FAST, 1.0, flips=11), OPTIONS) == (
        "answers differ: 11 of 1000 labels flip (1.10%; max_flip_share 1.00%)"
    )
    assert differs(measured(FAST, 1.0, loss=0.006), OPTIONS) == "macro_f1 is worse by 0.0060 (max_metric_loss 0.005)"
    assert differs(measured(FAST, 1.0, flips=10, loss=0.005), OPTIONS) is None  # the limits themselves pass


def test_numbers_that_move_too_far_are_told_by_how_much() -> None:
    entry = measured(FAST, 1.0)
    assert entry.parity is not None
    moved = replace(entry, parity=replace(entry.parity, unit="numbers", flips=None, flip_share=0.02, metric="rmse"))
    assert differs(moved, OPTIONS) == (
        "answers differ: by 2.00% of the target's standard deviation on average (max_flip_share 1.00%)"
    )


def test_faster_without_confidence_is_not_faster() -> None:
    choice = chosen(measured(FAST, 9.0, low=0.99))
    assert choice.winner == REFERENCE
    assert choice.why == "no candidate is as right as torch-fp32 and faster with confidence: the reference ships itself"
    assert choice.lost == {"openvino-bf16": "not surely faster than torch-fp32: 1.11× (0.99…1.99 at 95% confidence)"}


@pytest.mark.parametrize("order", [[FAST, FASTER], [FASTER, FAST]])
def test_ties_go_to_the_earlier(order: list[Candidate]) -> None:
    assert chosen(*(measured(candidate, 2.0) for candidate in order)).winner == order[0]


def test_the_objective_decides() -> None:
    steady = measured(FAST, 4.0, p99=5.0, megabytes=90.0, memory=80.0)
    quick_and_small = measured(FASTER, 3.0, p99=8.0, megabytes=20.0, memory=90.0)
    for measure, winner in (("p50", FASTER), ("p99", FAST), ("throughput", FASTER), ("size", FASTER), ("memory", FAST)):
        reference = measured(REFERENCE, 10.0, low=1.0, megabytes=100.0)
        found = choose(reference, [reference], [steady, quick_and_small], {}, objective(measure))
        assert found.winner == winner, measure


def test_less_memory_than_the_reference_must_be_known() -> None:
    options = objective("memory")
    choice = chosen(measured(FAST, 1.0, memory=None), measured(FASTER, 1.0, memory=100.0), options=options)
    assert choice.winner == REFERENCE
    assert choice.lost == {
        FAST.name: "its memory is not known",
        FASTER.name: "no less memory than torch-fp32: 100.0 MB",
    }


def test_finalists_are_the_fastest_that_are_right_and_a_sure_one() -> None:
    looked = [
        TORCH,
        measured(FASTER, 6.0, final=False),
        measured(FAST, 4.0, final=False),
        measured(SMALL, 2.0, final=False),
        measured(Candidate("openvino", "fp32"), 5.0, final=False),
        measured(Candidate("torch", "bf16"), 1.0, flips=900, final=False),
        Measurement(Candidate("tensorrt", "fp16"), failure="not on this machine: no GPU"),
    ]
    two, three = (quick(finalists=count).optimize for count in (2, 3))
    assert [entry.candidate.name for entry in pick_finalists(looked, two)] == [SMALL.name, "openvino-fp32"]
    assert [entry.candidate.name for entry in pick_finalists(looked, three)] == [SMALL.name, FAST.name, "openvino-fp32"]


def test_who_was_passed_over_is_told_why() -> None:
    looked = [
        TORCH,
        measured(FAST, 2.0, final=False),
        measured(FASTER, 5.0, final=False),
        Measurement(SMALL, failure="nncf is not installed"),
    ]
    tuned = measured(FAST.with_settings({"group_rows": 8}), 2.0)
    choice = choose(TORCH, looked, [tuned], {}, quick(finalists=1).optimize)
    assert choice.winner == tuned.candidate
    assert choice.lost == {
        "torch-fp32": "right, but 10.00 ms (median) where openvino-bf16 group_rows=8 has 2.00 ms (median)",
        "onnxruntime-fp32": "right on validation, but 2.00× at a first look: 1 were better",
        "openvino-bf16+static_int8": "nncf is not installed",
    }
