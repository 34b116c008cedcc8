"""README, whole: its first command trains S1 on the embedded digits."""

import pytest

from shvit_pl.runs.folder import read_summary
from tests.docs.pages import README, blocks, run_page


def test_the_first_command_trains_s1():
    assert blocks(README)[0].code == "pip install -e . && shvit-pl fit --config cli_configs/s1.yaml\n"
    assert not blocks(README)[0].needs


@pytest.mark.slow
def test_s1_reaches_0_98_on_the_digits(tmp_path, tmp_path_factory):
    run_page(README, tmp_path_factory.mktemp("tools"))
    summary = read_summary(tmp_path / "runs" / "s1" / "version_0")
    assert summary["metrics"]["val/acc1"] >= 0.98
