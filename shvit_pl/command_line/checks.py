"""Checks that several commands begin with: of folders to write into, and of installed extras."""

import os
from importlib.util import find_spec
from pathlib import Path

from shvit_pl.errors import UserError


def check_writable(flag: str, folder: str) -> None:
    """Raise `UserError` when nothing can be written into a flag's folder, or the folder can't be made."""
    if not folder:
        raise UserError(f"{flag} '': give a folder, such as runs.")
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{flag} {folder!r}: {there} is a file; give a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder!r}: no access to write into {there}; give another folder.")


_PACKAGES = {
    "sweep": ("optuna", "scipy"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "coreml": ("coremltools",),
    "executorch": ("executorch",),
}


def check_extra(command: str, extra: str) -> None:
    """Raise `UserError` where an extra's packages, which `command` needs, are not installed."""
    missing = [name for name in _PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise UserError(f"{command} needs {', '.join(missing)}, of an extra: pip install 'shvit-pl[{extra}]'.")
