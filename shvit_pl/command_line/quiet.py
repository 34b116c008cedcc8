"""Silencing the advice of other libraries that this package has already taken or can't take."""

import logging
import os
import sys
import threading
import warnings

import datasets
import torch
from huggingface_hub.utils import disable_progress_bars

from shvit_pl.compat import RETRIES_LOGGER
from shvit_pl.errors import visible

_LEVELS = {
    # Lightning's tips, and its lines about devices, seeds and checkpoints, which our own output names too
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,
    "lightning.fabric.utilities.rank_zero": logging.WARNING,
    "pytorch_lightning.utilities.rank_zero": logging.WARNING,  # takes their place where a user's file imports it
    "lightning.fabric.utilities.seed": logging.WARNING,
    "lightning.fabric.utilities.distributed": logging.WARNING,
    "datasets.packaged_modules.cache.cache": logging.ERROR,  # the version that it names may not be the one opened
    RETRIES_LOGGER: logging.ERROR,  # retries: an error follows where they fail
}
_WARNED = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*in eval mode at the start of training.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*does not have many workers.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*Be aware that when using `ckpt_path`.*",
    r".*predict returned None.*",
    r".*and overriding `LightningModule.optimizer_.*",  # called per step, as ours should be
    r".*overridden `on_before_batch_transfer` in both.*",  # our data module's needs no check
    r"SWA is currently only supported every epoch.*",  # an object's address; it works by step, too
    r".*could not find the monitored key in the returned metrics.*",  # the run ended before its first validation
)


def quiet() -> None:
    """Silence the loggers and warnings listed above, and show other warnings in one line."""
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if not torch.cuda.is_available():
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # repeats that there is no GPU
    if not sys.stderr.isatty():
        hide_bars()
    threading.excepthook = _of_a_thread
    # one line: a user can act on what a warning says, not on where it was raised
    warnings.showwarning = lambda message, *_: print(
        f"warning: {visible(' '.join(str(message).split()))}", file=sys.stderr
    )
    for message in _WARNED:
        warnings.filterwarnings("ignore", message=message)
    if "SLURM_JOB_ID" not in os.environ:  # on a cluster's login node: there is no job to be launched in
        warnings.filterwarnings("ignore", message="The `srun` command is available")


def hide_bars() -> None:
    """Hide the progress bars of `datasets` and of the Hub's client."""
    datasets.disable_progress_bars()
    disable_progress_bars()


def _of_a_thread(args: threading.ExceptHookArgs) -> None:
    """Ignore a full disk in the thread of TensorBoard, which raises the error again where it is called."""
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)
