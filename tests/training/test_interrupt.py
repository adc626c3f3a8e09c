from __future__ import annotations

import os
import signal
import threading

import pytest

from lnmt.training.interrupt import Interrupted, Interrupts


def test_the_first_signal_is_noted_and_ends_the_run_when_told() -> None:
    with Interrupts() as interrupts:
        assert interrupts.asked is None
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interrupts.stop()


def test_sigterm_ends_with_its_exit_code() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            interrupts.stop()
    assert caught.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_can_be_given_up_is_given_up(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            interrupts.check()


def test_the_second_signal_acts_at_once() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_of_the_main_thread_nothing_is_noted() -> None:
    found: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts:
            found.append(interrupts.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
