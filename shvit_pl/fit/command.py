"""Running LightningCLI's commands: one module, one data module, and what their errors mean to a user."""

from __future__ import annotations

from signal import SIGTERM

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from shvit_pl.command_line.quiet import quiet
from shvit_pl.deploy.measuring import is_out_of_memory
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit.lightning_cli import ShvitCLI


def _missing_package(error: BaseException | None) -> ModuleNotFoundError | None:
    """What jsonargparse wrapped into its own words, if it is that a package is not installed."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__ or error.__context__
    return error


def run(args: list[str]) -> None:
    """Run one of LightningCLI's commands."""
    run_as(ShvitCLI, args)


def run_as(kind: type[ShvitCLI], args: list[str]) -> None:
    """Run a command as one of LightningCLI's.

    Args:
        kind: The command line.
        args: The command's name, and its flags.
    """
    quiet()
    try:
        kind(args)
    except MisconfigurationException as error:  # Lightning's word for a user's mistake
        raise UserError(f"trainer: {one_line(error)}") from error
    except (ModuleNotFoundError, ValueError) as error:
        missing = _missing_package(error)  # of a logger, for example
        if missing is None or isinstance(error, UserError):
            raise
        raise UserError(one_line(missing)) from error
    except SIGTERMException as error:
        raise SystemExit(128 + SIGTERM) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "data.batch_size: more than the device's memory holds. Lower it (--trainer.accumulate_grad_batches keeps "
            "the global batch) or data.image_size, or set --model.grad_checkpointing true."
        ) from error
