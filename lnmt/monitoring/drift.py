"""Does a window of traffic still look like the reference? An Evidently report, and a verdict.

The rule. A window has drifted where

- a classifier tells it from the reference with an AUC of at least `domain_auc`: by the texts, or
  where they were not kept by the columns, or
- at least `drift_share` of the columns moved at least as far as their limit: `distance` standard
  deviations, or what chance gives a window of this size, whichever is larger.

Fewer than `min_rows` rows give no verdict.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnmt.errors import LnmtError
from lnmt.files import new_directory, write_bytes
from lnmt.monitoring.distance import chance_distance, distance
from lnmt.monitoring.domain import column_auc, text_auc
from lnmt.monitoring.signal import ColumnDrift, Signal, ToldBy, Window, write_signal
from lnmt.params import MonitorParams

if TYPE_CHECKING:
    import pandas as pd

TEXT = "text"
PAGE, RESULT = "drift.html", "drift.json"


def drift_report(
    current: pd.DataFrame, reference: pd.DataFrame, params: MonitorParams, out: Path, *, window: Window
) -> Signal:
    """Compare the columns of `lnmt.runtime.profile`; write drift.html, drift.json and signal.json into `out`.

    Numeric columns that both frames have are compared, and the texts where both have them (no text
    is written). A window of fewer than `min_rows` rows leaves signal.json alone, without a verdict.
    Raises LnmtError where no column is shared.
    """
    if len(current) < params.min_rows:
        reason = (
            f"not enough rows for a verdict: {len(current)} of the {params.min_rows} that monitor.min_rows asks for"
        )
        signal = Signal(None, reason, window, len(reference), None, [], None, None)
        with new_directory(out) as directory:
            write_signal(directory, signal)
        return signal

    names = _shared_columns(current, reference)
    columns = [_compare(name, current, reference, params) for name in names]
    share = sum(entry.drifted for entry in columns) / len(columns)
    auc, told_by = _tell_apart(current, reference, names, params.seed)
    drifted = share >= params.drift_share or (auc is not None and auc >= params.domain_auc)
    columns.sort(key=lambda entry: -entry.distance)
    signal = Signal(
        drifted, _reason(columns, share, auc, told_by, params), window, len(reference), share, columns, auc, told_by
    )
    with new_directory(out) as directory:
        _write_evidently(directory, current, reference, columns, params)
        write_signal(directory, signal)
    return signal


def _shared_columns(current: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    import pandas as pd

    names = [
        name for name in reference.columns if name in current.columns and pd.api.types.is_numeric_dtype(reference[name])
    ]
    if not names:
        raise LnmtError(
            "window and reference share no numeric column",
            where="monitor",
            value=", ".join(map(str, current.columns)),
            allowed=", ".join(map(str, reference.columns)),
            fix="monitor with the bundle that answered this traffic",
        )
    return names


def _compare(name: str, current: pd.DataFrame, reference: pd.DataFrame, params: MonitorParams) -> ColumnDrift:
    ours, theirs = (np.asarray(frame[name], dtype=np.float64) for frame in (current, reference))
    found = distance(ours, theirs)
    limit = max(params.distance, chance_distance(theirs, len(ours), params.seed))
    return ColumnDrift(name, found, limit, found >= limit)


def _tell_apart(
    current: pd.DataFrame, reference: pd.DataFrame, names: list[str], seed: int
) -> tuple[float | None, ToldBy | None]:
    """The classifier's AUC, and what it saw."""
    if TEXT in current.columns and TEXT in reference.columns:
        auc = text_auc(current[TEXT].tolist(), reference[TEXT].tolist(), seed)
        if auc is not None:
            return auc, "texts"
    ours, theirs = (frame[names].to_numpy(dtype=np.float64) for frame in (current, reference))
    auc = column_auc(ours, theirs, seed)
    return auc, None if auc is None else "columns"


def _reason(
    columns: list[ColumnDrift], share: float, auc: float | None, told_by: ToldBy | None, params: MonitorParams
) -> str:
    moved = [entry for entry in columns if entry.drifted]
    furthest = ", ".join(f"{entry.column} by {entry.distance:.2f}" for entry in moved[:3])
    said = [
        f"{len(moved)} of {len(columns)} columns moved ({share:.0%}; the limit is {params.drift_share:.0%})"
        + (f", furthest {furthest} standard deviations" if moved else "")
    ]
    if auc is None:
        said.append("too few distinct rows for a classifier to tell it from the reference")
    else:
        limit = f"the limit is {params.domain_auc:.2f}"
        said.append(f"a classifier tells it from the reference by its {told_by} with AUC {auc:.2f} ({limit})")
    return "; ".join(said)


def _write_evidently(
    directory: Path, current: pd.DataFrame, reference: pd.DataFrame, columns: list[ColumnDrift], params: MonitorParams
) -> None:
    """Evidently's page and JSON of the same columns under the same limits; the page needs no network."""
    names = [entry.column for entry in columns]
    with warnings.catch_warnings():
        # Evidently and what it imports use deprecated parts of numpy and litestar.
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(numerical_columns=names)
        preset = DataDriftPreset(
            columns=names,
            drift_share=params.drift_share,
            num_method="wasserstein",
            num_threshold=params.distance,
            per_column_threshold={entry.column: entry.limit for entry in columns},
            include_tests=False,
        )
        frames: list[Any] = [
            Dataset.from_pandas(frame[names], data_definition=definition) for frame in (current, reference)
        ]
        snapshot = Report([preset]).run(*frames)
        snapshot.save_html(str(directory / PAGE))
        write_bytes(directory / RESULT, snapshot.json().encode())
