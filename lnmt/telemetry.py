"""Nothing that LNMT builds on reports home. Applied at the edges: the command, the tasks, the service."""

from __future__ import annotations

import os
import sys

_QUIET = {
    # MLflow takes `true` and ignores `1`; Prefect and Evidently take any of them
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # ONNX Runtime from 1.31 on; its own disable_telemetry_events() comes too late for the first event
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def quiet_environment() -> dict[str, str]:
    """The variables that turn telemetry off, for this process or a child."""
    return dict(_QUIET)


def quiet() -> None:
    """Turn telemetry off in this process and its children. Call it before the libraries are imported."""
    os.environ.update(_QUIET)
    # OpenVINO sends an event when it is imported and knows no variable for it; without the package it uses a stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
