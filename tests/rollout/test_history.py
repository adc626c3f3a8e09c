from __future__ import annotations

import pytest

from lnmt.rollout.deployment import Deployment, Phase
from lnmt.rollout.history import previous_champion, released


def told(*states: tuple[Phase, str, str | None]) -> list[Deployment]:
    """A history of (phase, champion, challenger)."""
    return [
        Deployment("m", number, phase, champion, challenger, 0.5 if challenger else 0.0, 0.0, "")
        for number, (phase, champion, challenger) in enumerate(states, start=1)
    ]


def test_everything_that_was_live_was_released() -> None:
    history = told(("promoted", "a", None), ("canary", "a", "b"), ("rolled back", "a", None), ("canary", "a", "c"))
    assert released(history) == {"a", "b", "c"}
    assert released([]) == frozenset()


@pytest.mark.parametrize(
    ("states", "previous"),
    [
        ([], None),
        ([("promoted", "a", None)], None),
        ([("promoted", "a", None), ("canary", "a", "b"), ("rolled back", "a", None)], None),
        ([("promoted", "a", None), ("canary", "a", "b"), ("promoted", "b", None)], "a"),
        ([("promoted", "a", None), ("promoted", "b", None), ("canary", "b", "c"), ("stopped", "b", None)], "a"),
        ([("promoted", "a", None), ("promoted", "b", None), ("rolled back", "a", None)], None),
        ([("promoted", "a", None), ("promoted", "b", None), ("promoted", "c", None), ("rolled back", "b", None)], "a"),
        ([("promoted", "a", None), ("promoted", "b", None), ("rolled back", "a", None), ("promoted", "c", None)], "a"),
        ([("promoted", "a", None), ("promoted", "b", None), ("promoted", "a", None)], "b"),
    ],
)
def test_the_champion_before_is_one_that_was_not_rolled_back(
    states: list[tuple[Phase, str, str | None]], previous: str | None
) -> None:
    assert previous_champion(told(*states)) == previous
