"""The README's first command, whole: S1 on the embedded digits."""

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary


@pytest.mark.slow
def test_s1_reaches_0_98_on_the_digits(tmp_path):
    assert main(["fit", "--config", "cli_configs/s1.yaml"]) == 0
    summary = read_summary(tmp_path / "runs" / "s1" / "version_0")
    assert summary["metrics"]["val/acc1"] >= 0.98
