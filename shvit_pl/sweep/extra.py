"""What the extra `[sweep]` installs."""

from __future__ import annotations

from importlib.util import find_spec

from shvit_pl.errors import UserError

_PACKAGES = ("optuna", "scipy", "plotly")


def check_extra(command: str) -> None:
    """Raise `UserError` where the extra's packages are not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"{command} needs {', '.join(missing)}, of an extra: pip install 'shvit-pl[sweep]'.")
