"""A push: a run becomes the files of a model repository, without paths of the machine, in one commit."""

import getpass
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import HfApi, constants

from shvit_pl.data.objects.config import SCENES
from shvit_pl.display import say
from shvit_pl.hub.contents import content_of
from shvit_pl.hub.target import Target
from shvit_pl.hub_errors import push_timeout, pushing
from shvit_pl.runs.folder import CONFIG, FIGURES, METRICS, SUMMARY, FinishedRun, SweepChoice, write_summary

REPLACED = ("README.md", CONFIG, SUMMARY, METRICS, f"{FIGURES}/*")  # a push deletes those that it no longer has
_CLASS_KEYS = ("classes", "class_names")  # their names may look like paths: /m/01yrx is a cat in Open Images
_MIN_LENGTH = 4  # a shorter path, such as /, would match within others


def push(run: FinishedRun, target: Target, sweep: SweepChoice | None = None, backbone: bool = False) -> None:
    """Push a run (the best one of a sweep), or a detector's backbone, in one commit, and print its address.

    Until that commit is made, the repository is as it was. Files of others in it are left alone. Raises `HubError` for
    whatever keeps the Hub from taking it.
    """
    api, repo, branch, content = HfApi(), target.repo_id, target.revision, content_of(run, backbone)
    with TemporaryDirectory(prefix="shvit_pl_push_") as folder:
        write_files(run, Path(folder), target, sweep, backbone)
        with pushing(repo):
            api.create_repo(repo, private=not target.public, exist_ok=True)
            if branch is not None:
                api.create_branch(repo, branch=branch, exist_ok=True)
            before = api.model_info(repo, revision=branch, timeout=push_timeout())
            weights = "averaged" if run.averaged else "raw"
            commit = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=branch,
                delete_patterns=[*REPLACED, *content.files],
                commit_message=f"shvit-pl: {weights} weights of {run.checkpoint.name}, card and metrics",
            )
            if target.public and before.private:
                api.update_repo_settings(repo, private=False)
    visibility = "public" if target.public or not before.private else "private; --public shows it to everybody"
    say(f"{constants.ENDPOINT}/{repo}{f'/tree/{branch}' if branch else ''} ({visibility})")
    outcome = "nothing has changed since commit" if commit.oid == before.sha else "commit"
    say(f"{outcome} {commit.oid[:12]}; use it: {content.use(run, target)}")


def write_files(
    run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None, backbone: bool = False
) -> None:
    """Write everything that is pushed of a run, and nothing else, into an empty folder.

    Raises `UserError` for an incomplete checkpoint.
    """
    content = content_of(run, backbone)
    content.write(run, folder)
    names = PublicNames([run.config, sweep.choices if sweep else []])
    summary = {**names(run.summary), "command": names.command(run.summary["command"])}
    public = replace(run, summary=summary, config=names(run.config))
    (folder / CONFIG).write_text(yaml.safe_dump(public.config, sort_keys=False, allow_unicode=True))
    write_summary(folder, public.summary)
    pictures = content.pictures if run.dataset["path"] == SCENES else ()  # others' images may not be ours to publish
    for name in (METRICS, *(f"{FIGURES}/{figure}" for figure in (*content.figures, *pictures))):
        if (run.folder / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(run.folder / name, folder / name)
    chosen = sweep and replace(sweep, reason=names(sweep.reason), table=names(sweep.table))
    content.card(public, folder, target, chosen)


# ---- paths of the machine


class PublicNames:
    """Names under which the paths in settings (of a `config.yaml`, or a list of such) are published.

    A path becomes relative to the working directory, or else only its last part stays.
    """

    def __init__(self, settings: Any) -> None:
        paths = {path for text in _paths(settings) for path in (text, os.path.expanduser(text))}  # as given, as opened
        self._names = {path: public_name(path) for path in sorted(paths, key=len, reverse=True)}

    def __call__(self, value: Any) -> Any:
        """Return settings, or a sentence about them, with public names."""
        if isinstance(value, Mapping):
            return {key: item if key in _CLASS_KEYS else self(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        if not isinstance(value, str):
            return value
        if _is_outside(value):
            return public_name(value)
        for path, name in self._names.items():
            literal = name.replace("\\", r"\\")  # a backslash would begin an escape
            value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", literal, value)
        return value

    def command(self, command: str) -> str:
        """Return a command line with public names."""
        words = []
        for word in shlex.split(command):
            flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
            words.append(f"{flag}{equals}{self(value)}")
        return shlex.join(words)


def public_name(path: str) -> str:
    """Return a path relative to the working directory if it is below it, else its last part."""
    private = {Path.home().name}
    with suppress(KeyError, OSError):  # a container's user may have no name
        private.add(getpass.getuser())
    whole = Path(path).expanduser()
    if whole.is_absolute() and whole.resolve().is_relative_to(Path.cwd()):
        below = whole.resolve().relative_to(Path.cwd())
        if private.isdisjoint(below.parts):
            return below.as_posix()
    name = PureWindowsPath(path).name if "\\" in path else Path(path).name
    return name if name not in {"", "..", "~", *private} else "folder"


def _paths(value: Any) -> Iterator[str]:
    """Yield the texts in settings that are paths and tell where they lie."""
    if isinstance(value, Mapping):
        value = [item for key, item in value.items() if key not in _CLASS_KEYS]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str) and len(value) >= _MIN_LENGTH and _is_outside(value):
        yield value


def _is_outside(text: str) -> bool:
    if "\n" in text:
        return False
    path = Path(text)
    return path.is_absolute() or bool(PureWindowsPath(text).drive) or text.startswith("~") or ".." in path.parts
