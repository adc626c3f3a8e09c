from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOADED = """
import sys
from lnmt.serving.service import Lnmt
Lnmt.to_asgi()
import lnmt.client, lnmt.serving.server
import lnmt.runtime.onnxruntime, lnmt.runtime.openvino  # the engines of a released bundle
print("\\n".join(sys.modules))
"""
# fmt: off
FOREIGN = {
    "lnmt.training", "lnmt.data", "lnmt.hub", "lnmt.registry", "lnmt.optimization", "lnmt.models", "lnmt.stages",
    "lnmt.drive", "lnmt.cli", "mlflow", "prefect", "torch", "transformers", "pandas", "datasets", "dvc", "evidently",
    "great_expectations", "sklearn",
}
# fmt: on


def test_the_service_carries_no_training_dependency(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert {"lnmt.serving.app", "lnmt.rollout.table", "bentoml"} <= loaded
    assert {name for name in loaded if FOREIGN & {name, name.partition(".")[0], ".".join(name.split(".")[:2])}} == set()
    assert {name for name in loaded if name.startswith("lnmt.monitoring.")} == {
        "lnmt.monitoring.compaction_process",
        "lnmt.monitoring.compactor",
        "lnmt.monitoring.event_files",
        "lnmt.monitoring.event_index",
        "lnmt.monitoring.events",
        "lnmt.monitoring.feedback",
        "lnmt.monitoring.segments",
        "lnmt.monitoring.spool",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]  # making the app makes no directory
