"""`--config` files: found by path or among the shipped ones, checked, and as flat settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from shvit_pl.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> Path:
    """Return the folder of shipped configs: inside the installed package, or next to it in a checkout."""
    inside = _PACKAGE / "cli_configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "cli_configs"


def find_config(name: str, near: Path | None = None, flag: str = "--config") -> str:
    """Return the path of a config: the file `name`, or the shipped one (`s1.yaml`, `cli_configs/s1.yaml`, `s1`).

    The folder `near` comes before the shipped ones. For a missing one, raises `UserError` with `flag` and their names.
    """
    if Path(name).is_file():
        return name
    folder, wanted = shipped_configs(), name.removeprefix("cli_configs/")
    folders = [near / name] if near is not None else []
    for candidate in (*folders, folder / wanted, folder / f"{wanted}.yaml"):
        if candidate.is_file():
            return str(candidate)
    known = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))
    inside = [path for path in known if path.startswith(f"{wanted.split('/')[0]}/")]  # in the named folder
    above = [path for path in known if "/" not in path] + sorted(
        {f"{path.split('/')[0]}/..." for path in known if "/" in path}
    )
    problem = "a folder, not a file" if name and Path(name).is_dir() else f"no such file{did_you_mean(wanted, known)}"
    raise UserError(f"{flag} {name!r}: {problem}; shipped are {', '.join(inside or above)}.")


def with_found_configs(args: list[str]) -> list[str]:
    """Replace each config by `--config=` and the path that `find_config` finds, and check what is in it."""
    left, words = list(args), list[str]()
    while left:
        flag, equals, name = left.pop(0).partition("=")
        if flag in ("-c", "--config") and (equals or (left and not left[0].startswith("-"))):
            path = find_config(name if equals else left.pop(0))
            read_config(path)
            words.append(f"--config={path}")
        else:
            words.append(f"{flag}{equals}{name}")
    return words


def read_config(path: str, flag: str = "--config") -> dict[Any, Any]:
    """Return the settings in a YAML file; raises `UserError` where there are none, or one appears twice."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        tree, settings = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path!r}: not a text file; give a YAML file.") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = "a tab, where YAML indents by spaces" if r"'\t'" in problem else problem.splitlines()[0]
        raise UserError(f"{flag} {path!r}{where}: not YAML ({problem}).") from error
    if tree is None:
        raise UserError(f"{flag} {path!r}: the file is empty; write settings into it, or leave it out.")
    if not isinstance(tree, yaml.MappingNode):
        raise UserError(f"{flag} {path!r}: allowed are settings such as `model: {{design: {{name: s1}}}}`.")
    _check_keys(f"{flag} {path!r}", tree)
    return dict(settings)


def _check_keys(file: str, tree: yaml.MappingNode, prefix: str = "") -> None:
    """Raise `UserError` for a key that appears twice (YAML would take the second), or an empty section."""
    seen: set[str] = set()
    for key, value in tree.value:
        name, where = f"{prefix}{key.value}", f"{file}, line {key.start_mark.line + 1}"
        if name in seen:
            raise UserError(f"{where}: {name} appears twice; keep one of the two.")
        seen.add(name)
        if isinstance(value, yaml.MappingNode):
            _check_keys(file, value, f"{name}.")
        elif not prefix and name in ("model", "data", "trainer") and not value.value:
            raise UserError(f"{where}: {name} is empty; leave it out, or indent its settings below it.")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested settings with dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)


def plain(value: Any) -> Any:
    """Return a value as it comes back from a checkpoint or a YAML file: lists, and numbers of Python's own types."""
    if isinstance(value, int | float) and not isinstance(value, bool):  # a restricted type is a class of its own
        return int(value) if isinstance(value, int) else float(value)
    return list(value) if isinstance(value, tuple) else value
