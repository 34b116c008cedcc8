"""What was asked of `shvit-pl export`: checked before anything slow, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shvit_pl.deploy.export.formats import FORMATS, Format
from shvit_pl.deploy.flags import check_of_timm
from shvit_pl.errors import UserError

OPSETS = range(18, 24)  # that PyTorch's exporter writes
_FIXED_BATCH = ("onnx", "torch-export", "coreml", "executorch")


@dataclass(frozen=True)
class Request:
    """An export that is possible, as far as can be told without the network.

    Attributes:
        name: Of the format.
        output: The file.
        dtype: fp32 or fp16.
        batch: The only size of a batch; None: any.
        options: All flags.
    """

    name: str
    output: Path
    dtype: str
    batch: int | None
    options: Any

    @property
    def format(self) -> Format:
        """The format's properties."""
        return FORMATS[self.name]


def read_request(options: Any) -> Request:
    """Check the flags.

    Raises:
        UserError: for what is impossible, or contradicts itself.
    """
    format_ = FORMATS[options.format]
    dtype = options.dtype or format_.dtypes[0]
    _check_belonging(options)
    if dtype not in format_.dtypes:
        raise UserError(f"--dtype {dtype}: {options.format} is written in {' or '.join(format_.dtypes)} here.")
    if options.int8 and dtype != "fp32":
        raise UserError(f"--int8 --dtype {dtype}: int8 is made from fp32; leave out --dtype.")
    _check_numbers(options)
    batch = options.batch_size or (None if format_.dynamic else 1)
    return Request(options.format, _output(options, format_), dtype, batch, options)


def _check_belonging(options: Any) -> None:
    """Flags that belong to a format, or to another flag."""
    if options.format != "onnx":
        for flag, value in (("--opset", options.opset), ("--int8", options.int8)):
            if value:
                raise UserError(f"{flag}: it belongs to --format onnx; with {options.format}, leave it out.")
    if not options.int8:
        for flag, value in (("--int8_tolerance", options.int8_tolerance), ("--data", options.data)):
            if value is not None:
                raise UserError(f"{flag} {value}: it belongs to --int8; give that too, or leave it out.")
    check_of_timm("--pretrained", options.pretrained, options.network)
    if options.batch_size is not None and options.format not in _FIXED_BATCH:
        raise UserError(f"--batch_size: {options.format} takes batches of any size; leave it out.")


def _check_numbers(options: Any) -> None:
    if options.opset is not None and options.opset not in OPSETS:
        raise UserError(f"--opset {options.opset}: allowed are {OPSETS[0]} to {OPSETS[-1]}.")
    for flag, least in (("image_size", 1), ("batch_size", 1), ("tolerance", 0), ("int8_tolerance", 0)):
        value = getattr(options, flag)
        if value is not None and not value >= least:
            raise UserError(f"--{flag} {value}: allowed are numbers from {least}.")


def _output(options: Any, format_: Format) -> Path:
    path = Path(options.output).expanduser() if options.output else _beside(options, format_)
    if path.suffix != format_.suffix:
        raise UserError(f"--output {str(path)!r}: a file of {options.format} ends in {format_.suffix}.")
    if not path.parent.is_dir():
        raise UserError(f"--output {str(path)!r}: there is no folder {str(path.parent)!r}; make it first.")
    if path.exists() and path.is_dir() != (options.format == "coreml"):
        raise UserError(f"--output {str(path)!r}: something else is there; give another name.")
    return path


def _beside(options: Any, format_: Format) -> Path:
    """In a run folder `model`, beside a checkpoint its name, else here what the network is called."""
    ending = ("_int8" if options.int8 else "") + format_.suffix
    source = Path(options.network).expanduser()
    if source.is_dir():
        return source / f"model{ending}"
    if source.is_file():
        return source.with_name(source.stem + ending)
    return Path(options.network.split(":")[-1].split("/")[-1].split("@")[0] + ending)
