"""How MLflow's own tools load a registered bundle; the service never comes this way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle
from lnmt.types import Task

if TYPE_CHECKING:
    import pandas as pd

    from lnmt.runtime.predictor import Predictor


# What a model gives for each text: attributes of the task's prediction in `lnmt.types`.
COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "text-classification": ("label", "scores"),
    "multi-label-classification": ("labels", "scores"),
    "text-regression": ("value",),
    "token-classification": ("words", "tags"),
    "text-generation": ("loss", "perplexity"),
}


class _Model:
    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `text` in; the task's COLUMNS out, row by row. `scores` map label → probability."""
        import pandas as pd

        found = self._predictor.predict([str(text) for text in model_input["text"]])
        names = list(COLUMNS[self._predictor.task])
        return pd.DataFrame(
            [[_plain(getattr(one, name)) for name in names] for one in found], columns=names, index=model_input.index
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _load_pyfunc(data_path: str) -> _Model:
    """MLflow's entry: every file is verified against the bundle's own digests before anything parses it."""
    from lnmt.runtime.predictor import Predictor

    return _Model(Predictor.open(Bundle.open(Path(data_path))))
