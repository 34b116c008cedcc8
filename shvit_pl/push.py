"""`shvit-pl push`: a run, or the best one of a sweep, becomes a model page on the Hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from shvit_pl.command_line.parser import check_extra, read_options
from shvit_pl.deploy.options import CheckedOptions
from shvit_pl.display import say
from shvit_pl.errors import UserError
from shvit_pl.files import output_folder, replacing
from shvit_pl.hub.target import Target, branch_mistakes, check_access, name_mistakes
from shvit_pl.hub_errors import HubError
from shvit_pl.runs.folder import SWEEP, FinishedRun, SweepChoice, Weights


@dataclass(frozen=True)
class PushOptions(CheckedOptions):
    """The flags of `shvit-pl push`."""

    folder: str
    """A run folder, such as runs/s1/version_0, or a sweep folder."""
    repo_id: str
    """The repository, user/name; private when it is new."""
    public: bool = False
    """Make the repository public."""
    revision: str | None = None
    """A branch other than main; created if missing."""
    weights: Weights | None = None
    """Weights of a run, raw or ema (default: those that its --monitor selected)."""
    backbone: bool = False
    """Push the backbone of a detector alone, which timm loads."""
    dry_run: bool = False
    """Write the files here, and push nothing."""
    output: str | None = None
    """Folder of --dry_run's files (default: hub in the folder)."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        yield from name_mistakes(self.repo_id, "--repo_id")
        yield from branch_mistakes(self.revision)
        if not (self.folder and Path(self.folder).expanduser().is_dir()):
            yield f"folder {self.folder!r}: no such folder; give that of a run or sweep, such as runs/s1/version_0."
        if self.output is not None and not self.dry_run:
            yield f"--output {self.output!r}: only for --dry_run; leave it out."
        elif self.output == "":
            yield "--output '': give a folder, or leave it out."

    def open(self) -> tuple[FinishedRun, SweepChoice | None]:
        """Open the run, or the best run of the sweep with the reason for the choice."""
        folder = Path(self.folder).expanduser()
        if not (folder / SWEEP).is_file():
            return FinishedRun.open(folder, self.weights), None
        check_extra("push of a sweep", "sweep")
        from shvit_pl.sweep.finish import best_run

        best, choice = best_run(folder)
        return FinishedRun.open(best, self.weights), choice


def run(args: list[str]) -> None:
    """Run the command; its help waits for no heavy import."""
    options = read_options(
        PushOptions,
        args[1:],
        command="push",
        description="Push a run, or the best run of a sweep, to the Hugging Face Hub: weights, card and metrics.",
        positional=("folder",),
    )
    from shvit_pl.command_line.quiet import quiet

    quiet()
    if options.dry_run:
        _write(options)
        return
    from shvit_pl.hub.upload import push

    try:
        account = check_access(options.repo_id)  # before anything slow
        finished, sweep = options.open()
        say(f"pushing {finished.folder} to {options.repo_id} as {account}")
        push(finished, Target(options.repo_id, options.revision, options.public), sweep, options.backbone)
    except HubError as error:
        raise UserError(f"{error} Fix this and run the same command again.") from error


def _write(options: PushOptions) -> None:
    from shvit_pl.hub import contents, upload

    finished, sweep = options.open()
    contents.content_of(finished, options.backbone)
    output = options.output or str(Path(options.folder) / "hub")
    folder = output_folder(output, *upload.REPLACED, *contents.FILES, needed=contents.WEIGHTS)
    target = Target(options.repo_id, options.revision, options.public)
    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        upload.write_files(finished, partial, target, sweep, options.backbone)
    say(f"{folder}: the files for {options.repo_id}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        say(f"{decimal(path.stat().st_size):>9}  {path.relative_to(folder).as_posix()}")
    say("nothing was pushed")
