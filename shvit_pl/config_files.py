"""Finding `--config` files: as given, or among the configs that the package ships."""

from __future__ import annotations

from pathlib import Path

from shvit_pl.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).parent
_FLAGS = ("--config", "-c")


def shipped_configs() -> Path:
    """The folder of shipped configs: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "cli_configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "cli_configs"


def find_config(name: str) -> str:
    """Return the path of a config: the file `name`, or the shipped one (`s1.yaml`, `cli_configs/s1.yaml`, `s1`).

    Raises:
        UserError: with the shipped names, when there is neither.
    """
    if Path(name).is_file():
        return name
    folder, wanted = shipped_configs(), name.removeprefix("cli_configs/")
    for candidate in (folder / wanted, folder / f"{wanted}.yaml"):
        if candidate.is_file():
            return str(candidate)
    known = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))
    raise UserError(f"--config {name!r}: no such file{did_you_mean(wanted, known)}; shipped are {', '.join(known)}.")


def with_found_configs(args: list[str]) -> list[str]:
    """Replace the values of `--config` by the paths that `find_config` finds."""
    found = list(args)
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in _FLAGS and equals:
            found[position] = f"{flag}={find_config(value)}"
        elif arg in _FLAGS and position + 1 < len(args):
            found[position + 1] = find_config(args[position + 1])
    return found
