"""What is noted of a study and of its trials, and what a trial says by that."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

# of the study
DEFINITION = "definition"  # what it is a sweep of
SPEED = "speed"  # inference speed of its cells

# of a trial
KEY = "key"  # of its point
OWNER = "owner"  # the worker that runs it
BEAT = "beat"  # counts up while that worker lives
SUMMARY = "summary"
CURVES = "curves"
RUN = "run"  # folder, relative to the sweep's
COMMAND = "command"
ERROR = "error"
EXIT = "exit_code"
LOST = "lost"  # it failed because its worker died or was stopped: no fault of its own

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_LIVE = (TrialState.RUNNING, TrialState.WAITING)


def is_fault(trial: FrozenTrial) -> bool:
    """Whether a trial failed by itself, and not because its worker was gone or stopped."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get(LOST)


def telling(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial that says most of its point: what is done, else last runs, last waits, or last failed by itself."""
    done = [trial for trial in trials if trial.state in DONE]
    live = [trial for state in _LIVE for trial in reversed(trials) if trial.state == state]
    faults = [trial for trial in reversed(trials) if is_fault(trial)]
    return next(iter([*done, *live, *faults]), None)


def command_of(trial: FrozenTrial) -> str:
    """The command that does a trial's run; empty before it is known."""
    flags = trial.user_attrs.get(COMMAND)
    return shlex.join(["shvit-pl", "fit", *flags]) if flags is not None else ""
