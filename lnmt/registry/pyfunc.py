"""How MLflow's own tools load a registered bundle; the service never comes this way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle

if TYPE_CHECKING:
    import pandas as pd

    from lnmt.runtime.predictor import Predictor


class _Model:
    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `text` in; columns `label` and `scores` (label → probability) out, row by row."""
        import pandas as pd

        found = self._predictor.predict([str(text) for text in model_input["text"]])
        rows = [{"label": one.label, "scores": one.scores} for one in found]
        return pd.DataFrame(rows, columns=["label", "scores"], index=model_input.index)


def _load_pyfunc(data_path: str) -> _Model:
    """MLflow's entry: every file is verified against the bundle's own digests before anything parses it."""
    from lnmt.runtime.predictor import Predictor

    return _Model(Predictor.open(Bundle.open(Path(data_path))))
