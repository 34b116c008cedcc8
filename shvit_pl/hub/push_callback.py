"""A push to the Hugging Face Hub at the end of a fit."""

import shlex
import sys

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.errors import UserError, one_line
from shvit_pl.runs.loggers import run_folder


class PushToHub(L.Callback):
    """Push of the run to `user/name` once its summary and figures are written, on the first rank.

    A failure of the Hub does not fail the run: the message names the command that repeats the push.
    """

    def __init__(self, repo_id: str, public: bool = False) -> None:
        self.repo_id = repo_id
        self.public = public

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Push and print the address, or the reason for a failure and the command that repeats the push."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        from shvit_pl.hub.card import Target
        from shvit_pl.hub.upload import push
        from shvit_pl.runs.finished_run import FinishedRun

        try:
            push(FinishedRun.open(folder), Target(self.repo_id, public=self.public))
        except (UserError, OSError) as error:  # of the Hub, or of a disk that is full
            again = ["shvit-pl", "push", str(folder), "--repo-id", self.repo_id, *(["--public"] * self.public)]
            print(
                f"not pushed: {one_line(error)} The run is complete; push it with: {shlex.join(again)}", file=sys.stderr
            )


def check_push(repo_id: str | None, public: bool, trainer: Namespace) -> None:
    """Raise `UserError` at the start of a fit, with `--push_to` and `--push_public`, whose end could not be pushed."""
    if repo_id is None:
        if public:
            raise UserError("push_public True: it belongs to --push_to user/name; leave it out.")
        return
    for flag, writes in (
        ("logger False", trainer.logger is not False),
        ("enable_checkpointing False", trainer.enable_checkpointing is not False),
        ("fast_dev_run", not trainer.fast_dev_run),
    ):
        if not writes:
            raise UserError(f"push_to {repo_id!r}: with trainer.{flag} there is nothing to push; leave one out.")
    from shvit_pl.hub.access import check_access, check_repo_id

    check_repo_id(repo_id, "push_to")
    rank_zero_only(check_access)(repo_id)
