"""The commands that README and docs show have flags that there are, and configs and links that are there."""

import re
import shlex
from dataclasses import fields
from importlib import import_module
from inspect import signature

import pytest

from shvit_pl.analysis.command import STUDIES
from shvit_pl.cli import COMMANDS
from shvit_pl.command_line.config_files import find_config
from shvit_pl.deploy.options import BenchmarkOptions, ExportOptions
from shvit_pl.designs.command import DesignsOptions
from shvit_pl.fit.check import FitCheck
from shvit_pl.fit.soup.options import SoupOptions
from shvit_pl.fit.tasks import TASKS
from shvit_pl.push import PushOptions
from shvit_pl.sweep.command import ReportOptions
from shvit_pl.sweep.options import SweepOptions
from tests.docs.pages import PAGES, blocks

OPTIONS = {"benchmark": BenchmarkOptions, "export": ExportOptions, "push": PushOptions}
OPTIONS |= {"designs": DesignsOptions, "report": ReportOptions, "soup": SoupOptions}
OPTIONS |= {name: study.options for name, study in STUDIES.items()}
LIGHTNING = {"fit", "validate", "test", "predict", "cache-teacher", "sweep"}


def commands(page):
    """Every command line of ours in a page's shell blocks, and in its text after `shvit-pl`, as words."""
    shown = [block.code for block in blocks(page) if block.language == "bash"]
    shown += [" ".join(code.split()) for code in re.findall(r"`(shvit-pl [a-z][^`]*)`", page.read_text())]
    lines = "\n".join(shown).replace("\\\n", " ").splitlines()
    for part in (part for line in lines for part in line.split("&&")):
        words = shlex.split(part, comments=True)
        if "shvit-pl" in words[:-1]:  # the last word is the clone's folder
            yield words[words.index("shvit-pl") + 1 :]


ALL = [(page, words) for page in PAGES for words in commands(page)]


@pytest.fixture(scope="module")
def flags():
    """By task, the flags of each command."""
    own, of_task = {each.name for each in fields(SweepOptions)}, {}
    for task in TASKS:
        fit = FitCheck([f"--task={task}"]).flags()
        lightning = {name: fit | (own if name == "sweep" else {"output"}) for name in LIGHTNING}
        of_task[task] = lightning | {name: {each.name for each in fields(kind)} for name, kind in OPTIONS.items()}
    return of_task


def test_there_are_commands_of_every_kind():
    shown = {words[1] if words[0] == "analyze" else words[0] for _, words in ALL}
    assert {
        "fit",
        "predict",
        "validate",
        "cache-teacher",
        "sweep",
        "soup",
        "push",
        "benchmark",
        "export",
        "designs",
        *STUDIES,
    } <= shown
    assert {words[0] for _, words in ALL} <= set(COMMANDS)


@pytest.mark.parametrize(("page", "words"), ALL, ids=[f"{page.stem}-{' '.join(words)[:60]}" for page, words in ALL])
def test_its_flags_and_configs_are_there(page, words, flags):
    command = words[1] if words[0] == "analyze" else words[0]
    detects = page.stem == "detection" or any(word.startswith("detection/") for word in words)
    flags = flags["detection" if detects else "classification"]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            assert word.removeprefix("--").partition("=")[0].replace("-", "_") in flags[command]
        if word == "--config":
            assert f"cat > {following} " in page.read_text() or find_config(following) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_are_there(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_benchmarks_and_their_flags_are_there(page):
    for module, flags in re.findall(r"python -m\s+(benchmarks\.\w+)([^\n`]*)", page.read_text()):
        known = signature(import_module(module).main).parameters
        assert set(re.findall(r"--(\w+)", flags)) <= set(known), module
