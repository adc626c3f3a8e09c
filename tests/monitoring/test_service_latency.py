from __future__ import annotations

from dataclasses import replace

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.monitoring.service_latency import MOST_TOKENS, service_latency
from tests.monitoring.event_kit import EVENT


def nothing(digest: str) -> Bundle:
    raise LnmtError("no such bundle", where=digest)


def test_figures_are_of_answers_that_an_engine_gave() -> None:
    events = [
        *(replace(EVENT, id=f"a{ms}", bundle="sha256:a", latency_ms=float(ms), tokens=ms) for ms in range(1, 101)),
        replace(EVENT, id="cached", bundle="sha256:a", cached=True, latency_ms=0.01),
        replace(EVENT, id="failed", bundle="sha256:a", error="no", latency_ms=900.0),
        replace(EVENT, id="b", bundle="sha256:b", latency_ms=7.0, tokens=3),
    ]
    found = service_latency(events, nothing, "x86_64/avx2/2 cores")
    assert found["bundles"] == {
        "sha256:a": {"candidate": None, "requests": 100, "p50_ms": 50.5, "p99_ms": 99.01},
        "sha256:b": {"candidate": None, "requests": 1, "p50_ms": 7.0, "p99_ms": 7.0},
    }
    assert found["tokens"] == sorted([*range(1, 101), 3])
    assert found["hardware"] == "x86_64/avx2/2 cores"


def test_many_lengths_are_thinned_out_evenly() -> None:
    events = [replace(EVENT, id=str(number), tokens=number) for number in range(5 * MOST_TOKENS)]
    tokens = service_latency(events, nothing, "x")["tokens"]
    assert (len(tokens), tokens[0], tokens[-1]) == (MOST_TOKENS, 0, 5 * MOST_TOKENS - 1)
    assert 0.49 < tokens.index(min(tokens, key=lambda count: abs(count - 2.5 * MOST_TOKENS))) / MOST_TOKENS < 0.51


def test_nothing_answered_is_nothing_to_tell() -> None:
    assert service_latency([], nothing, "x") == {"format": 1, "hardware": "x", "tokens": [], "bundles": {}}
