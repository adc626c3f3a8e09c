from __future__ import annotations

from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.optimization.pareto import pareto_front
from tests.optimization.kit import measured

TORCH = measured(REFERENCE, 10.0, megabytes=100.0)


def test_what_is_beaten_in_everything_is_left_out() -> None:
    fast = measured(Candidate("openvino", "bf16"), 2.0, loss=0.01, megabytes=100.0)
    small = measured(Candidate("openvino", "fp32"), 9.0, loss=0.001, megabytes=25.0)
    beaten = measured(Candidate("onnxruntime", "fp32"), 9.5, loss=0.001, megabytes=25.0)
    failed = Measurement(Candidate("tensorrt", "fp16"), failure="no GPU")
    assert pareto_front([TORCH, fast, small, beaten, failed], 1) == [TORCH, fast, small]


def test_what_is_equal_in_everything_stays() -> None:
    twins = [measured(Candidate("openvino", "bf16"), 2.0, megabytes=50.0)] * 2
    assert pareto_front(twins, 1) == twins
