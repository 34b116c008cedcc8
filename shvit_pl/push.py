"""`shvit-pl push`: a run, or the best one of a sweep, becomes a model page on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.errors import UserError
from shvit_pl.files import replacing
from shvit_pl.hub.target import Target
from shvit_pl.sweep.engine.folder import SWEEP

if TYPE_CHECKING:
    from shvit_pl.hub.card import Sweep
    from shvit_pl.hub.ended import EndedRun


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    options = _parser().parse_args(args[1:])
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.hub.access import check_branch, check_repo_id
    from shvit_pl.hub_errors import HubError

    check_repo_id(options.repo_id, "--repo-id")
    check_branch(options.revision)
    if options.dry_run:
        _dry_run(options, *_open(options))
        return
    if options.output is not None:
        raise UserError(f"--output {options.output!r}: it belongs to --dry-run; leave it out.")
    try:
        _push(options)
    except HubError as error:
        raise UserError(f"{error} Nothing is lost: once that is mended, the same command repeats the push.") from error


def _push(options: Any) -> None:
    from shvit_pl.hub.access import check_access
    from shvit_pl.hub.upload import push

    account = check_access(options.repo_id)  # before anything slow
    chosen, sweep = _open(options)
    print(f"pushing {chosen.folder} to {options.repo_id} as {account}", flush=True)
    push(chosen, _target(options), sweep)


def _target(options: Any) -> Target:
    return Target(options.repo_id, options.revision, options.public)


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl push",
        description="Push a run, or the best run of a sweep, to the Hugging Face Hub: weights, card and metrics.",
    )
    add = parser.add_argument
    add("folder", type=str, help="a run folder, such as runs/s1/version_0, or a sweep folder")
    add("--repo_id", "--repo-id", type=str, required=True, help="the repository, user/name; private when it is new")
    add("--public", action="store_true", help="show it to everybody")
    add("--revision", type=str, help="a branch other than main; made if it is not there")
    add("--weights", choices=["raw", "ema"], help="which weights (default: those that the run's --monitor watched)")
    add("--dry_run", "--dry-run", action="store_true", help="write the files here, and push nothing")
    add("--output", type=str, help="where --dry-run writes them (default: hub in the folder)")
    return parser


def _open(options: Any) -> tuple[EndedRun, Sweep | None]:
    from shvit_pl.hub.ended import open_run

    folder = Path(options.folder).expanduser()
    if not (folder / SWEEP).is_file():
        return open_run(folder, options.weights), None
    from shvit_pl.command_line.checks import check_extra

    check_extra("push of a sweep", "sweep")
    from shvit_pl.sweep.best import best_run

    best, sweep = best_run(folder)
    return open_run(best, options.weights), sweep


def _dry_run(options: Any, chosen: EndedRun, sweep: Sweep | None) -> None:
    from shvit_pl.deploy.output import holds_results
    from shvit_pl.hub.files import is_ours, tree, write_files

    folder = Path(options.output or Path(options.folder) / "hub").expanduser()
    holds_results(folder, is_ours)  # raises where it holds others
    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        write_files(chosen, partial, _target(options), sweep)
    print(f"{folder}: what a push to {options.repo_id} would hold", *tree(folder), sep="\n")
    print("nothing was pushed")
