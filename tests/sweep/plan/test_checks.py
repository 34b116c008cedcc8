"""Mistakes that `fit` finds in a sweep's flags and cells: each is one short line, before anything starts."""

import pytest

from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.sweep.plan.checks import check_flags, check_strays, open_cells
from shvit_pl.sweep.plan.sweep_file import define, read_sweep_file
from tests.sweep.plan.mistakes import FLAGS, GRID, OF_FIT

QUICK = ("--model.design.name=tiny", "--data.num_workers=0")
CONFIGS = {
    "bad": "data: {batchsize: 8}\n",
    "low": "model: {optim: {lr: 0}}\n",
    "dev": "trainer: {fast_dev_run: true}\n",
    "nolog": "trainer: {logger: false}\n",
}


@pytest.fixture(scope="module")
def fit():
    return FitCheck()


def check(fit, flags):
    """The checks of `start`, in their order."""
    check_strays(flags)
    file = read_sweep_file("my.yaml")
    base = [*(f"--config={config}" for config in file.base), *QUICK, *flags]
    check_flags(file, flags, fit)
    open_cells(define(file, base, fit), file, base, fit)


def refusal(text, fit, *flags):
    """The message about a sweep file, or about flags beside it."""
    for name, content in {**CONFIGS, "my": text}.items():
        with open(f"{name}.yaml", "w") as file:
            file.write(content)
    with pytest.raises(UserError) as refused:
        check(fit, flags)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 430
    return message


@pytest.mark.parametrize("mistake", OF_FIT)
def test_a_mistake_in_a_sweep_file_that_fit_finds(mistake, fit, tmp_path):
    text, parts = OF_FIT[mistake]
    message = refusal(text, fit)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("flags", "parts"), FLAGS, ids=lambda value: value[0])
def test_a_mistake_in_a_flag(flags, parts, fit, tmp_path):
    message = refusal(GRID, fit, *flags)
    assert all(part in message for part in parts), message
