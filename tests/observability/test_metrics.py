from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lnmt.observability.metrics import CPU_EVERY_S, Metrics

WORKER = """
import os, sys
from lnmt.observability.metrics import Metrics
metrics = Metrics()
metrics.observe_request("/predict", "POST", 200, 0.003)
metrics.engine("m", "openvino").observe_batch(2, 10, 16, 0.02)
metrics.generation.labels("m").set(int(sys.argv[1]))
metrics.waiting_rows.labels("m").inc(3)
print(metrics.render().decode(), flush=True)
match sys.argv[2]:
    case "ends":
        metrics.close()
    case "lives":
        sys.stdin.read()
    case "dies":
        os.kill(os.getpid(), 9)
"""


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus reads it; without those of processes."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if "process" not in sample.name
    }


def test_a_request_is_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.observe_request("/predict", "POST", 200, 0.003)
    metrics.observe_request("/predict", "FORGED", 405, 0.1)
    text = metrics.render().decode()
    assert 'lnmt_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'lnmt_requests_total{method="OTHER",route="/predict",status="405"} 1.0' in text
    assert 'lnmt_request_seconds_bucket{le="0.0025",route="/predict"} 0.0' in text
    assert 'lnmt_request_seconds_bucket{le="0.005",route="/predict"} 1.0' in text


def test_forged_methods_take_no_memory() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.observe_request("/predict", f"FORGED{number}", 405, 0.1)
    assert len(metrics._requests) == 1


def test_a_batch_tells_its_rows_its_padding_and_why_it_left() -> None:
    metrics = Metrics()
    engine = metrics.engine("m", "openvino")
    engine.observe_release("full", [0.0005, 0.002, 0.02])
    engine.observe_batch(rows=3, tokens=40, padded_tokens=48, seconds=0.03)
    engine.observe_batch(rows=1, tokens=7, padded_tokens=8, seconds=0.01)
    found = values(metrics)
    assert found["lnmt_batch_releases_total model=m reason=full"] == 1
    assert found["lnmt_queue_seconds_count model=m"] == 3
    assert found["lnmt_queue_seconds_bucket le=0.001 model=m"] == 1
    assert found["lnmt_batch_rows_sum model=m"] == 4
    assert found["lnmt_batch_tokens_sum model=m"] == 56
    assert found["lnmt_tokens_total kind=text model=m"] == 47
    assert found["lnmt_tokens_total kind=padding model=m"] == 9  # so 9 / 56 is waste, exactly
    assert found["lnmt_engine_seconds_sum engine=openvino model=m"] == pytest.approx(0.04)


def test_a_prediction_has_its_share_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    now, spent = 100.0, 7.0
    monkeypatch.setattr("lnmt.observability.metrics.time.monotonic", lambda: now)
    monkeypatch.setattr("lnmt.observability.metrics.time.process_time", lambda: spent)
    metrics = Metrics(core_hour_price=0.05)
    for now, spent, model in ((100.0, 7.5, "m"), (100.0 + CPU_EVERY_S / 2, 8.0, "m"), (102.0, 9.5, "other")):  # noqa: B007
        metrics.observe_answers(model, "champion", "ok", 3)
    metrics.observe_answers("m", "champion", "error")
    found = values(metrics)
    assert found["lnmt_predictions_total arm=champion model=m outcome=ok"] == 6
    assert found["lnmt_predictions_total arm=champion model=m outcome=error"] == 1
    assert found["lnmt_core_hour_price"] == 0.05
    assert found["lnmt_cpu_seconds_total model=m"] == 0.5
    assert found["lnmt_cpu_seconds_total model=other"] == 2.0  # all that was spent is somebody's


def test_the_cpu_is_that_of_the_process() -> None:
    metrics = Metrics()
    sum(range(1_000_000))
    metrics.observe_answers("m", "champion", "ok")
    assert values(metrics)["lnmt_cpu_seconds_total model=m"] > 0


def test_lookups_loads_and_events() -> None:
    metrics = Metrics()
    metrics.observe_lookup("m", "hit")
    metrics.observe_lookup("m", "joined")
    metrics.observe_load("m", 1.5)
    metrics.observe_load("m", None)
    metrics.observe_append(812, 0.00003)
    metrics.observe_compaction(0.2, {"spool": 0, "segments": 4096})
    found = values(metrics)
    assert found["lnmt_cache_lookups_total model=m outcome=hit"] == 1
    assert found["lnmt_cache_lookups_total model=m outcome=joined"] == 1
    assert found["lnmt_bundle_loads_total model=m outcome=loaded"] == 1
    assert found["lnmt_bundle_loads_total model=m outcome=failed"] == 1
    assert found["lnmt_bundle_load_seconds_sum model=m"] == 1.5
    assert found["lnmt_event_bytes_total"] == 812
    assert found["lnmt_event_append_seconds_bucket le=5e-05"] == 1
    assert found["lnmt_event_compaction_seconds_count"] == 1
    assert found["lnmt_event_store_bytes part=segments"] == 4096


def test_every_name_is_ours() -> None:
    names = [metric.name for metric in Metrics().registry.collect()]
    assert [name for name in names if not name.startswith("lnmt_")] == []
    assert len(names) == len(set(names))


def test_this_process_tells_its_cpu_memory_and_files() -> None:
    text = Metrics().render().decode()
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds"):
        [line] = [line for line in text.splitlines() if line.startswith(f"lnmt_process_{name}{{")]
        labels, value = line.split(" ")
        assert labels.endswith(f'{{pid="{os.getpid()}"}}')
        assert float(value) > 0


def run(directory: Path, generation: int, end: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", WORKER, str(generation), end]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_workers_are_added_up(tmp_path: Path) -> None:
    lives = run(tmp_path, 7, "lives")
    try:
        assert lives.stdout is not None
        while "lnmt_process_open_fds{" not in (lives.stdout.readline() or pytest.fail("it ended")):
            pass  # it has written its figures
        for generation, end in ((4, "ends"), (5, "dies")):
            run(tmp_path, generation, end).communicate()
        last = run(tmp_path, 9, "ends")
        text = last.communicate()[0]
    finally:
        lives.communicate("")
    assert 'lnmt_requests_total{method="POST",route="/predict",status="200"} 4.0' in text
    assert 'lnmt_tokens_total{kind="padding",model="m"} 24.0' in text
    assert 'lnmt_generation{model="m"} 7.0' in text  # of those that live: neither the one that ended nor the killed one
    assert 'lnmt_waiting_rows{model="m"} 6.0' in text
    kept = {path.stem.rpartition("_")[2] for path in tmp_path.glob("*.db")}
    assert kept <= {"ended", str(lives.pid), str(last.pid)}  # however many workers ended
    told = {line.split('"')[1] for line in text.splitlines() if line.startswith("lnmt_process_cpu_seconds_total{")}
    assert told == {str(lives.pid), str(last.pid)}
