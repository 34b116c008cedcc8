"""Runs of one step on a small dataset of the Hub, `user/birds`."""

from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit
from tests.hub_server import in_process

ONE_STEP = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--data.batch_size=8", "--run_name=birds"]
STREAMED = ["--data.streaming=true", "--data.steps_per_epoch=1", "--trainer.limit_train_batches=null"]
SPLITS = {"train": [0, 1] * 10, "test": [0, 1] * 4}


def train(*flags):
    return fit(*ONE_STEP, *flags)


def summary(tmp_path, version=0):
    return read_summary(tmp_path / "runs" / "birds" / f"version_{version}")


def refusal(capfd, tmp_path, *flags):
    """The one line that the command says when it refuses; nothing may be left of the run."""
    assert train(*flags) == 2
    *before, message = capfd.readouterr().err.splitlines()
    assert "error:" not in " ".join(before)
    assert "Traceback" not in " ".join(before)
    assert not list(tmp_path.iterdir())
    assert len(message) < 450
    return message


def offline(hub):
    """As a new process in which the Hub does not answer any more."""
    hub.stop()
    in_process.forget()
