"""What the extras of the package install."""

from __future__ import annotations

from importlib.util import find_spec

from shvit_pl.errors import UserError

_PACKAGES = {
    "sweep": ("optuna", "scipy", "plotly"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "coreml": ("coremltools",),
    "executorch": ("executorch",),
}


def check_extra(command: str, extra: str) -> None:
    """Raise `UserError` where an extra's packages, which `command` needs, are not installed."""
    missing = [name for name in _PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise UserError(f"{command} needs {', '.join(missing)}, of an extra: pip install 'shvit-pl[{extra}]'.")
