"""Events to write, and strategies for any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from lnmt.monitoring.events import EventWriter, PredictionEvent, id_time, new_id, read_events
from lnmt.monitoring.segments import segment_files

EVENT = PredictionEvent(
    id="a",
    time=1_700_000_000.25,
    model="sentiment",
    generation=3,
    arm="challenger",
    bundle="sha256:" + "b" * 64,
    unit=None,
    cached=False,
    batch_rows=2,
    row=1,
    tokens=7,
    padded_tokens=8,
    characters=20,
    label="positive",
    scores={"negative": 0.25, "positive": 0.75},
    pooled=[0.5, -1.5],
    latency_ms=3.125,
    error=None,
    text="zwei\r\nZeilen \u2028 und ein 😀",
)

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)  # any but lone surrogates
any_texts = st.text(st.characters(), max_size=20)


def events(text: st.SearchStrategy[str]) -> st.SearchStrategy[PredictionEvent]:
    """Any event, with strings of this kind."""
    return st.builds(
        PredictionEvent,
        id=text,
        time=st.floats(0, 1e10),
        model=text,
        generation=counts,
        arm=st.sampled_from(["champion", "challenger"]),
        bundle=text,
        unit=st.none() | text,
        cached=st.booleans(),
        batch_rows=counts,
        row=counts,
        tokens=counts,
        padded_tokens=counts,
        characters=counts,
        label=st.none() | text,
        scores=st.dictionaries(text, finite, max_size=4),
        pooled=st.lists(finite, max_size=4),
        latency_ms=finite,
        error=st.none() | text,
        text=st.none() | text,
        given_label=st.none() | text,
        withheld=st.none() | text,
        pinned=st.none() | st.booleans(),
    )


def event(prediction_id: str, time: float | None = None) -> PredictionEvent:
    """An event with this id; without a `time` of the time that the id tells."""
    return replace(EVENT, id=prediction_id, time=(id_time(prediction_id) or EVENT.time) if time is None else time)


def write(directory: Path, *ids: str, time: float | None = None) -> None:
    """A closed spool file with an event for each id."""
    writer = EventWriter(directory)
    writer.append(*(event(one, time) for one in ids))
    writer.close()


def ids(directory: Path) -> list[str]:
    """Of every event, each once."""
    return sorted(one.id for one in read_events(directory))


def names(directory: Path) -> list[str]:
    """Of every segment of events, level after level."""
    return [path.name for path in segment_files(directory, "events")]


def some_ids(number: int) -> list[str]:
    """New ones, in their order."""
    return sorted(new_id() for _ in range(number))
