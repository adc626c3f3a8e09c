from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lnmt.observability.metrics import Metrics

WORKER = """
import os, sys
from lnmt.observability.metrics import Metrics
metrics = Metrics()
metrics.observe_request("/predict", "POST", 200, 0.003)
metrics.generation.labels("m").set(int(sys.argv[1]))
if sys.argv[2] == "ends":
    metrics.close()
print(metrics.render().decode())
"""


def test_a_request_is_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.observe_request("/predict", "POST", 200, 0.003)
    metrics.observe_request("/predict", "FORGED", 405, 0.1)
    text = metrics.render().decode()
    assert 'lnmt_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'lnmt_requests_total{method="OTHER",route="/predict",status="405"} 1.0' in text
    assert 'lnmt_request_seconds_bucket{le="0.0025",route="/predict"} 0.0' in text
    assert 'lnmt_request_seconds_bucket{le="0.005",route="/predict"} 1.0' in text


def test_every_name_is_ours() -> None:
    names = [metric.name for metric in Metrics().registry.collect()]
    assert [name for name in names if not name.startswith("lnmt_")] == []
    assert len(names) == len(set(names))


def test_workers_are_added_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    text = ""
    for generation, end in (("4", "ends"), ("7", "lives"), ("9", "lives")):
        command = [sys.executable, "-c", WORKER, generation, end]
        text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert 'lnmt_requests_total{method="POST",route="/predict",status="200"} 3.0' in text
    assert 'lnmt_generation{model="m"} 7.0' in text  # of those that live
