"""A benchmark's machine and versions, and its results as Markdown and JSON."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shvit_pl.deploy.measuring import processor


def environment(packages: Sequence[str]) -> dict[str, str]:
    """The processor (no host's name), Python, the packages' versions, and the command."""
    return {
        "cpu": processor(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "command": " ".join(["python -m benchmarks." + Path(sys.argv[0]).stem, *sys.argv[1:]]),
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others figures."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def publish(stem: Path, title: str, text: str, under: Mapping[str, str], **results: Any) -> None:
    """Print the text, and write `stem.md` (title, environment, text) and `stem.json` (environment and results).

    Args:
        stem: The path of the files, without their endings.
        title: Of the text.
        text: Markdown.
        under: The environment.
        results: All numbers, by name.
    """
    print(text)
    stem.parent.mkdir(parents=True, exist_ok=True)
    facts = [f"- {name}: {value}" for name, value in under.items()]
    stem.with_suffix(".md").write_text("\n".join([f"# {title}", "", *facts, "", text, ""]))
    stem.with_suffix(".json").write_text(json.dumps({"environment": dict(under), **results}, indent=2) + "\n")
