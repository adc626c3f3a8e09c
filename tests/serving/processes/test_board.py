from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lnmt.serving.lifecycle import STARTING, Lifecycle
from lnmt.serving.problems import Problem
from lnmt.serving.processes.board import Board, Phase, State


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(3)
    yield board
    board.close()


def test_a_new_board_wants_nothing_and_nobody_sits_there(board: Board) -> None:
    assert (board.seats, board.phase, board.wanted, board.ready) == (3, Phase.SERVING, 0, 0)
    assert [board.state(seat) for seat in range(3)] == [State.EMPTY] * 3


def test_another_mapping_of_the_same_descriptor_sees_what_is_written(board: Board) -> None:
    other = Board(os.dup(board.fd))
    board.phase = Phase.DRAINING
    board.wanted = 2
    other.set_state(1, State.READY)
    other.beat(1)
    other.beat(1)
    other.say(1, "no model released yet: lnmt release")
    assert (other.phase, other.wanted) == (Phase.DRAINING, 2)
    assert (board.ready, board.beats(0), board.beats(1)) == (1, 0, 2)
    assert (board.reason(0), board.reason(1)) == ("", "no model released yet: lnmt release")
    other.close()


def test_a_seat_is_cleared_for_the_next_worker_and_its_neighbours_stay(board: Board) -> None:
    for seat in range(3):
        board.set_state(seat, State.READY)
        board.beat(seat)
        board.say(seat, f"seat {seat}")
    board.clear(1, State.STARTING)
    assert [board.state(seat) for seat in range(3)] == [State.READY, State.STARTING, State.READY]
    assert [board.beats(seat) for seat in range(3)] == [1, 0, 1]
    assert [board.reason(seat) for seat in range(3)] == ["seat 0", "", "seat 2"]


def test_a_long_reason_is_cut_inside_its_seat(board: Board) -> None:
    board.say(1, "ü" * 500)
    assert set(board.reason(1)) == {"ü"}
    assert 100 < len(board.reason(1)) < 128
    assert (board.state(2), board.reason(2)) == (State.EMPTY, "")


def test_a_lifecycle_without_a_board_is_the_only_worker() -> None:
    lifecycle = Lifecycle()
    assert (lifecycle.workers(), lifecycle.draining, lifecycle.closing) == ((1, 1), False, False)
    lifecycle.begin_drain()
    assert (lifecycle.draining, lifecycle.closing) == (True, True)


def test_a_lifecycle_follows_the_board(board: Board) -> None:
    lifecycle = Lifecycle(board)
    board.wanted = 2
    board.set_state(2, State.READY)
    assert (lifecycle.workers(), lifecycle.draining) == ((1, 2), False)
    board.phase = Phase.DRAINING
    assert (lifecycle.draining, lifecycle.closing) == (True, True)
    board.phase = Phase.STOPPING
    assert lifecycle.draining


def test_a_worker_that_leaves_closes_connections_but_the_service_is_ready(board: Board) -> None:
    lifecycle = Lifecycle(board)
    lifecycle.begin_leave()
    since = lifecycle.leaving_since
    lifecycle.begin_leave()
    assert (lifecycle.closing, lifecycle.draining) == (True, False)
    assert lifecycle.leaving_since == since


def test_readiness_is_what_the_app_says() -> None:
    lifecycle = Lifecycle()
    starting = lifecycle.not_ready()
    assert starting is not None
    assert starting.body["error"] == STARTING
    problem = Problem(503, "no model released yet", fix="lnmt release")
    problems = [problem]

    def check() -> None:
        if problems:
            raise problem

    lifecycle.ready_when(check)
    assert lifecycle.not_ready() is problem
    problems.clear()
    assert lifecycle.not_ready() is None
