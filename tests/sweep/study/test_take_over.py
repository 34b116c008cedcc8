"""A point is taken over from a worker that is dead or silent, and never from one that lives."""

import time

import pytest
from optuna.trial import TrialState

from shvit_pl.sweep.plan.points import Point
from shvit_pl.sweep.processes import this_process
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.journal import open_journal
from shvit_pl.sweep.study.trials import BEAT, ERROR, KEY, LOST, is_fault

GRACE = 0.5
ELSEWHERE = {**this_process(), "machine": "another", "host": "far"}


@pytest.fixture
def board(tmp_path):
    """A study with one point, which waits."""
    board = Board(open_journal(tmp_path), "numbers", ["max"])
    board.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    return board


def look(board, seconds):
    """Look for dead workers every now and then, as a driver does; until one is found, at most."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and TrialState.FAIL not in states(board):
        board.reap(GRACE)
        time.sleep(0.02)


def states(board):
    return [trial.state for trial in board.trials()]


def test_a_worker_elsewhere_is_taken_for_dead_after_the_grace_time_and_not_before(board):
    board.claim(ELSEWHERE)
    look(board, 0.8 * GRACE)
    assert states(board) == [TrialState.RUNNING]
    look(board, 20 * GRACE)
    assert states(board) == [TrialState.FAIL]
    lost = board.trials()[0]
    assert lost.user_attrs[LOST]
    assert lost.user_attrs[ERROR] == "its worker on far is gone"
    assert not is_fault(lost)
    board.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    assert board.claim(this_process()).number == 1


def test_a_worker_elsewhere_that_is_heard_keeps_its_point(board):
    trial = board.claim(ELSEWHERE)
    for beat in range(5):
        board.note(trial.number, {BEAT: beat})
        look(board, 0.6 * GRACE)
    assert states(board) == [TrialState.RUNNING]


def test_a_point_that_was_begun_keeps_its_place(tmp_path):
    board = Board(open_journal(tmp_path), "numbers", ["max"])
    points = [Point(key, key, {}, 0) for key in "abc"]
    board.enqueue_missing(points, retries=0)
    lost = board.claim(this_process())
    board.end(lost.number, TrialState.FAIL, {LOST: True})
    board.enqueue_missing(points, retries=0)
    assert [board.claim(this_process()).user_attrs[KEY] for _ in points] == ["a", "b", "c"]


def test_a_live_worker_here_keeps_its_point_however_silent(board):
    board.claim(this_process())
    look(board, 2 * GRACE)
    assert states(board) == [TrialState.RUNNING]


def test_a_trial_whose_worker_died_before_it_gave_its_name_is_taken_over(board):
    board.storage.set_trial_state_values(board._id(0), TrialState.RUNNING)
    look(board, 20 * GRACE)
    assert states(board) == [TrialState.FAIL]


def test_silence_counts_only_while_somebody_listens(board):
    trial = board.claim(ELSEWHERE)
    board.note(trial.number, {BEAT: 1})
    board.reap(GRACE)
    time.sleep(2 * GRACE)  # the driver was stopped, or the database away: for the workers too
    board.reap(GRACE)
    board.note(trial.number, {BEAT: 2})
    board.reap(GRACE)
    assert states(board) == [TrialState.RUNNING]


def test_two_drivers_that_let_the_same_point_wait_have_it_done_once(board):
    board.study.enqueue_trial({}, user_attrs={"key": "a"})
    assert board.claim(this_process()).number == 0
    assert board.claim(this_process()) is None
    assert [is_fault(trial) for trial in board.trials()] == [False, False]
    assert states(board) == [TrialState.RUNNING, TrialState.FAIL]
