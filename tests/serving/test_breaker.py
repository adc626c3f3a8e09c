from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lnmt.serving.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_so_many_failures_in_a_row_and_says_so_once() -> None:
    breaker = Breaker(failures=3, clock=Clock())
    assert [breaker.failed(), breaker.failed(), breaker.is_open, breaker.allows()] == [False, False, False, True]
    assert [breaker.failed(), breaker.failed(), breaker.is_open, breaker.allows()] == [True, False, True, False]


def test_a_call_that_goes_through_begins_the_count_anew() -> None:
    breaker = Breaker(failures=2, clock=Clock())
    for _ in range(5):
        assert not breaker.failed()
        assert not breaker.succeeded()
    assert not breaker.is_open


def test_while_open_one_call_is_due_each_rest() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=5.0, clock=clock)
    breaker.failed()
    clock.now = 104.9
    assert not breaker.allows()
    clock.now = 105.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    clock.now = 109.9
    assert not breaker.allows()
    clock.now = 110.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert [breaker.is_open, breaker.allows(), breaker.allows()] == [False, True, True]


def test_a_call_that_never_tells_is_not_waited_for() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=1.0, clock=clock)
    breaker.failed()
    for _ in range(3):
        clock.now += 1.0
        assert [breaker.allows(), breaker.allows()] == [True, False]


@given(
    st.integers(1, 5),
    st.lists(st.one_of(st.sampled_from(["ask", "fail", "succeed"]), st.integers(0, 30)), max_size=60),
)
def test_an_outage_is_told_once_at_each_end_and_asked_about_at_most_once_a_rest(
    failures: int, steps: list[str | int]
) -> None:
    clock, rest_s = Clock(), 10.0
    breaker = Breaker(failures=failures, rest_s=rest_s, clock=clock)
    told: list[str] = []
    asked_at: list[float] = []
    for step in steps:
        if isinstance(step, int):
            clock.now += step
        elif step == "ask":
            if breaker.allows() and breaker.is_open:
                asked_at.append(clock.now)
        elif step == "fail":
            if breaker.failed():
                told.append("opened")
                asked_at = [clock.now]  # the rest begins here
        elif breaker.succeeded():
            told.append("closed")
        assert breaker.is_open == (told[-1:] == ["opened"])
    assert told == (["opened", "closed"] * len(told))[: len(told)]
    assert all(later - earlier >= rest_s for earlier, later in pairwise(asked_at))
