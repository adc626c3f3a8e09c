"""A bundle as an MLflow model directory: signature, input example and the bundle itself.

The model is of the plainest kind that MLflow has: data, and the name of a module that loads it
(`lnmt.registry.pyfunc`). Nothing is pickled, no code is copied, nothing runs when it is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle
from lnmt.registry.connect import quietly
from lnmt.registry.pyfunc import COLUMNS


def write_model(directory: Path, bundle: Bundle, logged: Any, input_example: Sequence[str]) -> None:
    """Write the MLflow model of `bundle` to `directory`, which must not exist, for the LoggedModel `logged`."""
    import pandas as pd

    with quietly():
        import mlflow.pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types.schema import Array, ColSpec, DataType, Map, Schema

    kinds: dict[str, Any] = {
        "label": DataType.string,
        "labels": Array(DataType.string),
        "scores": Map(DataType.double),
        "words": Array(DataType.string),
        "tags": Array(DataType.string),
    }
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text")]),
        outputs=Schema([ColSpec(kinds.get(name, DataType.double), name) for name in COLUMNS[bundle.manifest.task]]),
    )
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=logged.source_run_id,
        metadata={"bundle": bundle.digest},
    )
    with quietly():
        mlflow.pyfunc.save_model(
            str(directory),
            mlflow_model=model,
            loader_module="lnmt.registry.pyfunc",
            data_path=str(bundle.path),
            signature=signature,
            input_example=pd.DataFrame({"text": list(input_example)}, dtype=object) if input_example else None,
            pip_requirements=[f"lnmt=={version('lnmt')}"],  # inferring them takes seconds
        )
