"""`shvit-pl benchmark` and `shvit-pl export`: their help and mistakes in flags need no heavy import."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from shvit_pl.command_line.parser import check_extra, read_options
from shvit_pl.deploy.options import BenchmarkOptions, ExportOptions
from shvit_pl.display import say
from shvit_pl.errors import UserError, refuse


def benchmark(args: list[str]) -> None:
    """Run `shvit-pl benchmark`: measure networks in turns in one process, and write a table and its files."""
    options = read_options(
        BenchmarkOptions,
        args[1:],
        command="benchmark",
        description="Measure speed and memory of networks side by side, and compare each with the first one.",
        epilog="Several values are separated by commas: --batch_size 1,32. Modes: official (traced, as speed_test.py "
        "of the official code), eager (fused, channels-last), compiled (eager with torch.compile; reduce-overhead and "
        "max-autotune are its modes), optimized (shvit_pl.optimize).",
        positional=["models"],
    )
    if "onnx" in options.runtime:
        check_extra("--runtime onnx", "onnx")
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.deploy import benchmark_report as report
    from shvit_pl.deploy import detector_benchmark, measuring
    from shvit_pl.deploy.benchmark import Builder, check_sizes, measure, plan

    device = measuring.chosen_device(options.device)
    are_detectors = detector_benchmark.all_are_detectors(options.models)
    open_one: Any = detector_benchmark.open_detector if are_detectors else measuring.open_weights
    opened = {name: open_one(name, options.weights) for name in options.models}
    if are_detectors:
        refuse(detector_benchmark.mistakes(options, opened))
        options = replace(options, mode=("eager",))
    official_on_cpu = options.protocol == "official" and device.type == "cpu"
    with measuring.num_threads(1 if official_on_cpu else options.threads):
        conditions = options.conditions | measuring.machine(device)
        groups = plan(options, {name: network.image_size for name, network in opened.items()}, device.type)
        kind = detector_benchmark.DetectorBuilder if are_detectors else Builder
        if not are_detectors:
            check_sizes(groups, opened)
        earlier = report.begin(options, conditions, groups)
        builder = kind(opened, device, options.train)
        measured, skipped = measure(groups, builder, options)
        rows = [report.make_row(item, opened[item.cell.model]) for item in measured]
        report.print_table(rows, conditions, earlier)
        facts = report.environment(conditions, opened, measured, skipped, ["shvit-pl", *args])
        figures = report.draw(rows, conditions)
        measuring.write_results(
            Path(options.output).expanduser(), {report.TABLE: rows}, (report.ENVIRONMENT, facts), figures
        )
    say(f"written: {Path(options.output).expanduser()}")


def export(args: list[str]) -> None:
    """Run `shvit-pl export`: turn a run, a repo of the Hub or a design into a file that other programs run."""
    options = read_options(
        ExportOptions,
        args[1:],
        command="export",
        description="Export a fused network to a file, and verify the file by running it on real images.",
        positional=["network"],
    )
    if options.spec.extra is not None:
        check_extra(f"--format {options.format}", options.spec.extra)
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.models.detection.detectors import is_detector

    if is_detector(options.network):
        from shvit_pl.deploy.detector_export import export_detector
        from shvit_pl.models.detection.detectors import open_detector
        from shvit_pl.runs.folder import AVERAGED

        export_detector(open_detector(options.network, AVERAGED[options.weights]), options)
        return
    if options.dense:
        raise UserError("--dense: for a detector alone; leave it out.")
    from shvit_pl.deploy.export import export as export_network
    from shvit_pl.deploy.measuring import open_weights

    export_network(open_weights(options.network, options.weights, pretrained=options.pretrained), options)
