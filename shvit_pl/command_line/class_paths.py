"""Classes by import path (callbacks, loggers, plugins): found in the working directory too, and mistakes in them."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import signature
from typing import Any

from shvit_pl.errors import did_you_mean, one_line

# sections of the trainer that take classes, each with the module that holds Lightning's
_HOMES = {
    "accelerator": "lightning.pytorch.accelerators",
    "callbacks": "lightning.pytorch.callbacks",
    "logger": "lightning.pytorch.loggers",
    "plugins": "lightning.pytorch.plugins",
    "profiler": "lightning.pytorch.profilers",
    "strategy": "lightning.pytorch.strategies",
}
_OTHER_PACKAGES = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


def import_from_working_directory() -> None:
    """Let import paths begin in the working directory, after all that is installed; a console script would not."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def class_mistake(section: str, text: str) -> str | None:
    """Return the message for a class that can't be imported or is of another kind; None where that is not the mistake.

    `text` is jsonargparse's message, or the value of a section that takes names too.
    """
    home = _HOMES.get(section.removesuffix(".help").rpartition(".")[2])
    if home is None:
        return None
    for path in dict.fromkeys(_paths(text)):
        if mistake := _path_mistake(path, home):
            return f"{section} {path}: {mistake}"
        kinds = dict.fromkeys(re.findall(r"correspond to a subclass of (\w+)", text))
        if kinds and not any(each.__name__ in kinds for each in load_class(path).__mro__ if is_lightnings(each)):
            return f"{section} {path}: {_kind_mistake(path, list(kinds))}"
    return None


def setting_mistake(section: str, message: str, shortened: Callable[[str], str]) -> str | None:
    """Return the message for a wrong, unknown or missing setting of a class; None where that is not the mistake.

    `message` is jsonargparse's, whose indentation shows what belongs to the class, and `shortened` shortens a part.
    """
    if untyped := re.search(r"Parameter '(\w+)' from '([\w.]+)\.__init__' does not specify a type", message):
        name, path = untyped.groups()
        return f"{section} {path}: required: {name}, which has no type; write one in the class, such as {name}: int"
    of_class = re.search(r"^( *)- Problem with given class_path '([^']+)':((?:\n\1  +.*)+)", message, re.MULTILINE)
    path, problem = (of_class[2], of_class[3].strip()) if of_class else ("", "")
    if not problem.startswith(("Parser key", "Option", "the following arguments")):  # the class, or none
        return None
    if unknown := re.search(r"Option '(.+)' is not accepted", problem):
        problem = f"{unknown[1]}: no such setting{did_you_mean(unknown[1], signature(load_class(path)).parameters)}"
    else:
        problem = shortened(problem.replace("the following arguments are required", "required"))
    return f"{section} {path}: {problem}; see shvit-pl fit --{section}.help {path}"


def is_lightnings(kind: type) -> bool:
    """Return whether a class comes with the package `lightning`."""
    return kind.__module__.startswith("lightning.")


def load_class(path: str) -> Any:
    """Return the class of an import path."""
    package, _, name = path.rpartition(".")
    return getattr(import_module(package), name)


def _paths(text: str) -> Iterator[str]:
    """Yield all import paths in a message or a value."""
    for pattern in (r"class_path['\"]?[ :=]+['\"]([^'\"]+)['\"]", r"[Ii]mport path (?:string: |format: )?(\S+)(?: |$)"):
        yield from (path for path in re.findall(pattern, text) if path != "does")
    value = re.split(r"(?:Got|Given) value:\s*", text)[-1].strip()
    if _PATH.fullmatch(value):
        yield value


def _path_mistake(path: str, home: str) -> str:
    """Return why a path can't be imported, and the next step; empty for one that can."""
    package, _, name = path.rpartition(".")
    root = path.partition(".")[0]
    if root in _OTHER_PACKAGES:
        return f"of the package {root}; use {_OTHER_PACKAGES[root]}{path.removeprefix(root)}"
    if not package:
        hint = did_you_mean(name, _classes(home))
        return f"no such class{hint}; give one of {home}, or an import path such as mine.{name}"
    if name == "py" or not _PATH.fullmatch(path):
        return f"no import path; name a class, such as {package.replace('/', '.').strip('.')}.MyClass"
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        return _module_mistake(package, error.name or package)
    except Exception as error:  # whatever a user's file raises
        return f"{package} can't be imported ({type(error).__name__}: {one_line(error)}); mend it"
    if isinstance(getattr(module, name, None), type):
        return ""
    return f"no class {name} in {package}{did_you_mean(name, _classes(package))}; name one that is there"


def _classes(module: str) -> list[str]:
    return [name for name, value in vars(import_module(module)).items() if isinstance(value, type)]


def _module_mistake(package: str, missing: str) -> str:
    if package == missing or package.startswith(f"{missing}."):
        file = f"{missing.replace('.', '/')}.py"
        return f"no module {missing} in the working directory or installed; run the command where {file} is"
    if (root := missing.partition(".")[0]) in _OTHER_PACKAGES:
        return f"{package} imports {missing}; use {_OTHER_PACKAGES[root]} in it"
    return f"{package} imports {missing}, which is not installed; install it"


def _kind_mistake(path: str, kinds: list[str]) -> str:
    for base in load_class(path).__mro__:
        if (root := base.__module__.partition(".")[0]) in _OTHER_PACKAGES:
            return f"derived from {root}'s {base.__name__}; derive it from lightning.pytorch's"
    return f"no {' or '.join(kinds)} of lightning.pytorch; derive it from one"
