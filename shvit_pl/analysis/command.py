"""`shvit-pl analyze`: a table of studies, each imported when it runs."""

from dataclasses import dataclass, fields
from importlib import import_module

from shvit_pl.analysis.options import HeadsOptions, MacroOptions, RuntimeOptions
from shvit_pl.command_line.parser import read_options
from shvit_pl.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Study:
    """A study as a command."""

    options: type[HeadsOptions | MacroOptions | RuntimeOptions]
    """Its flags; the first one is given by position."""
    module: str
    """Module whose `run` runs it, with the options and the command line."""
    help: str
    """Line in the list of studies."""
    description: str
    """Text of its own help."""


STUDIES = {
    "heads": Study(
        HeadsOptions,
        "shvit_pl.analysis.heads_report",
        "how similar the heads of attention are, and what each is worth",
        "Measure how similar the attention maps of a layer's heads are, what top-1 is without one head and with one "
        "alone, and what the heads attend to, as in the paper's Figures 3 and 4.",
    ),
    "runtime": Study(
        RuntimeOptions,
        "shvit_pl.analysis.runtime_report",
        "where the time of attention goes, by kind of operation",
        "Measure where the time of attention goes: matrix products, elementwise operations, normalization, copies and "
        "reshapes, beside the paper's Fig. 7. From torch.profiler: on a CPU the time in each operator, on a GPU that "
        "of its kernels. Fused attention is switched off, as it is one operator.",
    ),
    "macro": Study(
        MacroOptions,
        "shvit_pl.analysis.macro_report",
        "what each stage of a design costs, beside the device's limits",
        "Measure what each stage of a design costs: tokens, MACs, bytes, time and receptive field, and its place below "
        "the device's roofline. The device's peaks are measured: a large matrix product, and a large copy.",
    ),
}


def run(args: list[str]) -> None:
    """Run one study; `args` begin with the command's own name.

    Raises:
        UserError: for an unknown study, and for what the study itself refuses.
    """
    if len(args) == 1:
        raise UserError(f"which study? Allowed are {', '.join(STUDIES)}; shvit-pl analyze --help describes them.")
    name = args[1]
    if name in ("-h", "--help"):
        rows = "\n".join(f"  {name:<9}{study.help}" for name, study in STUDIES.items())
        print(f"usage: shvit-pl analyze STUDY [options]\n\n{rows}\n")
        print("shvit-pl analyze STUDY --help shows a study's options.")
        return
    if name not in STUDIES:
        raise UserError(f"{name!r}: allowed are {', '.join(STUDIES)}{did_you_mean(name, STUDIES)}.")
    study = STUDIES[name]
    options = read_options(
        study.options,
        args[2:],
        command=f"analyze {name}",
        description=study.description,
        positional=[fields(study.options)[0].name],
    )
    from shvit_pl.command_line.quiet import quiet  # imports torch, which no help waits for

    quiet()
    import_module(study.module).run(options, ["shvit-pl", "analyze", *args[1:]])
