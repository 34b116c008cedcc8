"""`shvit-pl analyze`: a table of studies, each imported when it is called."""

from __future__ import annotations

from importlib import import_module

from shvit_pl.errors import UserError, did_you_mean

STUDIES = {
    "heads": ("shvit_pl.analysis.heads.command:run", "how alike the heads of attention are, and what each is worth"),
    "runtime": ("shvit_pl.analysis.runtime.command:run", "where the time of attention goes, by kind of operation"),
    "macro": ("shvit_pl.analysis.macro.command:run", "what each stage of a design costs, beside the device's limits"),
}


def run(args: list[str]) -> None:
    """Run one study; `args` begin with the command's own name.

    Raises:
        UserError: for a study that there is not, and for what the study itself refuses.
    """
    if len(args) == 1:
        raise UserError(f"which study? Allowed are {', '.join(STUDIES)}; shvit-pl analyze --help says what they show.")
    study = args[1]
    if study in ("-h", "--help"):
        print(_help())
        return
    if study not in STUDIES:
        raise UserError(f"{study!r}: allowed are {', '.join(STUDIES)}{did_you_mean(study, STUDIES)}.")
    module, function = STUDIES[study][0].split(":")
    getattr(import_module(module), function)(args[1:])


def _help() -> str:
    rows = "\n".join(f"  {name:<9}{help_}" for name, (_, help_) in STUDIES.items())
    return (
        f"usage: shvit-pl analyze STUDY [options]\n\n{rows}\n\nshvit-pl analyze STUDY --help shows a study's options."
    )
