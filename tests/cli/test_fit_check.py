"""What a check of `fit` rests on."""

from shvit_pl.cli import main
from shvit_pl.fit.check import fit_check


def test_it_is_of_fit_after_another_command_of_the_same_process():
    assert main(["validate", "--unknown=1"]) == 2
    assert fit_check().settings(["--model.design.name=tiny"])["model.design.name"] == "tiny"
