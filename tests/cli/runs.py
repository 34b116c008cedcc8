"""Running the command in this process, on the embedded digits, for a few steps."""

from shvit_pl.cli import main

QUICK = [
    "--config=cli_configs/s1.yaml",
    "--model.design.name=tiny",
    "--data.image_size=64",
    "--data.batch_size=16",
    "--data.num_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=4",
]


def fit(*flags):
    """`shvit-pl fit` with a quick setting and further flags; returns the exit code."""
    return main(["fit", *QUICK, *flags])
