"""One push: a run folder becomes a commit of a model repository."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants

from shvit_pl.hub.card import Sweep
from shvit_pl.hub.ended import EndedRun
from shvit_pl.hub.files import PUSHED, write_files
from shvit_pl.hub.target import Target
from shvit_pl.hub_errors import hub_errors, patience


def push(run: EndedRun, target: Target, sweep: Sweep | None = None) -> None:
    """Push a run in one commit, and print where it is.

    Until that commit is made, the repository is as it was. Files of others in it are left alone.

    Args:
        run: The run.
        target: Where to.
        sweep: The sweep that it is the best run of.

    Raises:
        HubError: for whatever keeps the Hub from taking it.
    """
    with TemporaryDirectory(prefix="shvit_pl_push_") as folder:
        write_files(run, Path(folder), target, sweep)
        with hub_errors(target.repo_id):
            _upload(Path(folder), run, target)


def _upload(folder: Path, run: EndedRun, target: Target) -> None:
    api, repo, branch = HfApi(), target.repo_id, target.revision
    api.create_repo(repo, private=not target.public, exist_ok=True)
    if branch is not None:
        api.create_branch(repo, branch=branch, exist_ok=True)
    before = api.model_info(repo, revision=branch, timeout=patience())
    weights = "averaged" if run.averaged else "raw"
    commit = api.upload_folder(
        repo_id=repo,
        folder_path=folder,
        revision=branch,
        delete_patterns=list(PUSHED),
        commit_message=f"shvit-pl: {weights} weights of {run.checkpoint.name}, card and metrics",
    )
    if target.public and before.private:
        api.update_repo_settings(repo, private=False)
    seen = "public" if target.public or not before.private else "private; --public shows it to everybody"
    print(f"{constants.ENDPOINT}/{repo}{f'/tree/{branch}' if branch else ''} ({seen})")
    made = "nothing has changed since commit" if commit.oid == before.sha else "commit"
    print(f'{made} {commit.oid[:12]}; use it: timm.create_model("{target.source}", pretrained=True)')
