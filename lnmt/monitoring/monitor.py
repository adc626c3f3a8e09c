"""A window of prediction events against the profile of the bundle that answered them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnmt.bundles import Bundle
from lnmt.bundles.served import check_served
from lnmt.monitoring.drift import drift_report
from lnmt.monitoring.events import PredictionEvent
from lnmt.monitoring.reference import read_reference
from lnmt.monitoring.signal import Signal, Window
from lnmt.params import MonitorParams
from lnmt.runtime.profile import answer_columns, describe
from lnmt.text.processors import text_chain

if TYPE_CHECKING:
    import pandas as pd


def monitor(events: Iterable[PredictionEvent], bundle: Bundle, params: MonitorParams, out: Path) -> Signal:
    """Judge the newest `window_rows` answers of `bundle` among `events`; reports and signal.json go to `out`.

    Errors and other bundles' answers are left out: their scores are not comparable. Where a row came
    without its text (LNMT_STORE_TEXT is off), what needs the texts is left out. Raises LnmtError for a
    bundle of a task that the service does not answer.
    """
    window = select(events, check_served(bundle).digest, params.window_rows)
    described = Window(
        model=window[-1].model if window else None,
        bundle=bundle.digest,
        rows=len(window),
        start=window[0].time if window else None,
        end=window[-1].time if window else None,
    )
    return drift_report(current_frame(window, bundle), read_reference(bundle), params, out, window=described)


def select(events: Iterable[PredictionEvent], bundle: str, rows: int | None) -> list[PredictionEvent]:
    """The newest `rows` (None: all) answers that the bundle of this digest gave, in order of time."""
    kept = [event for event in events if event.error is None and event.bundle == bundle]
    kept.sort(key=lambda event: (event.time, event.id))
    return kept if rows is None else kept[-rows:]


def current_frame(events: Sequence[PredictionEvent], bundle: Bundle) -> pd.DataFrame:
    """The profile's columns for these events; `characters` alone describes texts that were not kept."""
    import pandas as pd

    if not events:
        return pd.DataFrame()
    labels = bundle.manifest.labels
    scores = np.array([[event.scores[label] for label in labels] for event in events], dtype=np.float64)
    projected = np.array([event.pooled for event in events], dtype=np.float64)
    tokens = np.array([event.tokens for event in events], dtype=np.int64)
    answers = answer_columns(labels, scores, projected, tokens)
    texts = [event.text for event in events if event.text is not None]
    if len(texts) < len(events):
        return pd.DataFrame({"characters": [float(event.characters) for event in events], **answers})
    process = text_chain(bundle.manifest.processors)
    processed = [process(text) for text in texts]
    return pd.DataFrame({"text": processed, **describe(processed), **answers})
