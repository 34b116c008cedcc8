"""A push to the Hugging Face Hub at the end of a fit."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.errors import UserError, one_line
from shvit_pl.runs.loggers import run_folder


class PushToHub(L.Callback):
    """Pushes the run once its summary and figures are written, on the first rank.

    A Hub that fails then does not make the run fail: the message names the command that repeats the push.

    Args:
        repo_id: `user/name`.
        public: Show a new repository to everybody.
    """

    def __init__(self, repo_id: str, public: bool = False) -> None:
        self.repo_id = repo_id
        self.public = public

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Push, and say where; or why not, and what to do."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        from shvit_pl.hub.ended import open_run
        from shvit_pl.hub.target import Target
        from shvit_pl.hub.upload import push

        try:
            push(open_run(folder), Target(self.repo_id, public=self.public))
        except (UserError, OSError) as error:  # of the Hub, or of a disk that is full
            again = ["shvit-pl", "push", str(folder), "--repo-id", self.repo_id, *(["--public"] * self.public)]
            print(
                f"not pushed: {one_line(error)} The run is complete; push it with: {shlex.join(again)}", file=sys.stderr
            )


def check_push(repo_id: str | None, public: bool, trainer: Any) -> None:
    """Raise `UserError` at the start of a fit whose end could not be pushed.

    Args:
        repo_id: `user/name`; None for no push.
        public: As for `PushToHub`.
        trainer: The trainer's settings.
    """
    if repo_id is None:
        if public:
            raise UserError("push_public True: it belongs to --push_to user/name; leave it out.")
        return
    for flag, value in (("logger", trainer.logger), ("enable_checkpointing", trainer.enable_checkpointing)):
        if value is False:
            raise UserError(f"push_to {repo_id!r}: with trainer.{flag} False there is nothing to push; leave one out.")
    if trainer.fast_dev_run:
        raise UserError(f"push_to {repo_id!r}: with trainer.fast_dev_run there is nothing to push; leave one out.")
    from shvit_pl.hub.access import check_access, check_repo_id

    check_repo_id(repo_id, "push_to")
    rank_zero_only(check_access)(repo_id)
