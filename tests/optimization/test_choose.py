from __future__ import annotations

from dataclasses import replace

import pytest

from lnmt.optimization.candidate import REFERENCE, Candidate, Latency, Measurement, Parity
from lnmt.optimization.choose import choose
from lnmt.stats.bootstrap import Interval
from tests.optimization.conftest import quick

OPTIONS = quick(max_flip_share=0.01, max_metric_loss=0.005).optimize
FAST = Candidate("openvino", "bf16")
FASTER = Candidate("onnxruntime", "fp32")


def measured(
    candidate: Candidate, median: float, *, low: float = 1.5, flips: int = 0, loss: float = 0.0
) -> Measurement:
    latency = Latency(8, median, Interval(median, median), median, 10 / median, Interval(low, low + 1))
    parity = Parity("labels", 1000, flips, flips / 1000, "macro_f1", 0.7 - loss, loss, max_difference=0.1)
    return Measurement(candidate, megabytes=1.0, parity=parity, latency={1: latency, 4: latency})


TORCH = measured(REFERENCE, 10.0, low=1.0)


def test_the_fastest_that_is_right_wins() -> None:
    choice = choose([TORCH, measured(FAST, 4.0), measured(FASTER, 3.0)], OPTIONS)
    assert choice.winner == FASTER
    assert choice.why == "fastest at batch size 1: 3.00 ms, 3.33× the reference (1.50…2.50 at 95% confidence)"
    assert choice.lost == {
        "torch-fp32": "right, but 10.00 ms where onnxruntime-fp32 takes 3.00 ms (3.33 times as long)",
        "openvino-bf16": "right, but 4.00 ms where onnxruntime-fp32 takes 3.00 ms (1.33 times as long)",
    }


def test_flips_and_lost_f1_rule_out_whatever_the_speed() -> None:
    choice = choose([TORCH, measured(FAST, 1.0, flips=11), measured(FASTER, 2.0, loss=0.006)], OPTIONS)
    assert choice.winner == REFERENCE
    assert choice.lost == {
        "openvino-bf16": "answers differ: 11 of 1000 labels flip (1.10%; max_flip_share 1.00%)",
        "onnxruntime-fp32": "macro_f1 is worse by 0.0060 (max_metric_loss 0.005)",
    }


def test_numbers_that_move_too_far_are_told_by_how_much() -> None:
    entry = measured(FAST, 1.0)
    assert entry.parity is not None
    moved = replace(entry.parity, unit="numbers", flips=None, flip_share=0.02, metric="rmse")
    choice = choose([TORCH, replace(entry, parity=moved)], OPTIONS)
    assert choice.lost == {
        "openvino-bf16": "answers differ: by 2.00% of the target's standard deviation on average (max_flip_share 1.00%)"
    }


def test_the_limits_themselves_pass() -> None:
    assert choose([TORCH, measured(FAST, 1.0, flips=10, loss=0.005)], OPTIONS).winner == FAST


def test_faster_without_confidence_is_not_faster() -> None:
    choice = choose([TORCH, measured(FAST, 9.0, low=0.99)], OPTIONS)
    assert choice.winner == REFERENCE
    assert choice.why == "no candidate is as right as torch-fp32 and faster with confidence: the reference ships itself"
    assert choice.lost == {"openvino-bf16": "not surely faster than torch-fp32: 1.11× (0.99…1.99 at 95% confidence)"}


def test_a_failure_is_its_own_reason() -> None:
    choice = choose([TORCH, Measurement(FAST, failure="ONNX export failed: X")], OPTIONS)
    assert choice.lost == {"openvino-bf16": "ONNX export failed: X"}


@pytest.mark.parametrize("order", [[FAST, FASTER], [FASTER, FAST]])
def test_ties_go_to_the_earlier(order: list[Candidate]) -> None:
    assert choose([TORCH, *(measured(candidate, 2.0) for candidate in order)], OPTIONS).winner == order[0]


def test_a_candidates_name_tells_its_settings() -> None:
    assert Candidate("openvino", "bf16", {"streams": 2, "dim": 8}).name == "openvino-bf16-dim=8-streams=2"
