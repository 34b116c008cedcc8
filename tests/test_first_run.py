"""README, whole: its first command trains S1 on the embedded digits, and prints what README shows."""

import re

import pytest

from shvit_pl.runs.folder import read_summary
from tests.docs.pages import README, blocks, run_page


def shape(text):
    """`text` with every number, line break and run of spaces alike, and without what depends on the machine."""
    text = " ".join(re.sub(r"[0-9]+(\.[0-9]+)?", "0", text).split())
    slow = r"epoch 0/0 batch 0/0 .*? left |data wait 0 of the time "  # printed by slow machines alone
    return re.sub(rf"(?<= device )0 x .*?(?=, 0-)|{slow}", "", text)


def test_the_first_command_trains_s1():
    clone, first = blocks(README)[:2]
    assert clone.code.startswith("git clone REPOSITORY shvit-pl && cd shvit-pl ")
    assert first.code == "pip install -e . && shvit-pl fit --config cli_configs/s1.yaml\n"
    assert (clone.needs, first.needs) == (["network"], [])


@pytest.mark.slow
def test_s1_reaches_0_98_on_the_digits_and_prints_what_readme_shows(tmp_path, tmp_path_factory):
    printed = run_page(README, tmp_path_factory.mktemp("tools"))[0]
    summary = read_summary(tmp_path / "runs" / "s1" / "version_0")
    assert summary["metrics"]["val/acc1"] >= 0.98
    shown = re.search(r"^```text\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)[1]
    assert shape(shown) in shape(printed)
    planned = re.compile(r"design .*?(?= device )")  # no machine changes these numbers
    assert planned.search(" ".join(shown.split()))[0] == planned.search(" ".join(printed.split()))[0]
    assert abs(summary["metrics"]["val/acc1"] - float(re.search(r"val/acc1 +(\S+)\n *val/acc5", shown)[1])) < 0.015
