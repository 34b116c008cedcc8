"""A process dies with its parent."""

import os
import subprocess
import sys

import pytest

from tests.sweep import small
from tests.sweep.engine.launch import ROOT, kill, processes_of, wait_until

PARENT = """
import signal, subprocess, sys, time
from shvit_pl.sweep.processes import kill_on_parent_exit
prepare = kill_on_parent_exit()
def slowly():
    time.sleep({before})
    prepare()
signal.setitimer(signal.ITIMER_REAL, {alarm})  # which kills us
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[1]], preexec_fn=slowly)
"""


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the system's own means, of Linux")


@on_linux
@pytest.mark.parametrize(("before", "alarm"), [(0, 0.5), (0.6, 0.3)], ids=["child runs", "child is not prepared yet"])
def test_a_child_dies_with_its_parent(tmp_path, before, alarm):
    command = [sys.executable, "-c", PARENT.format(before=before, alarm=alarm), str(tmp_path)]
    assert subprocess.run(command).returncode < 0
    assert wait_until(lambda: not processes_of(tmp_path), 3)


@on_linux
@pytest.mark.slow
def test_all_processes_of_a_fit_die_with_the_first(tmp_path):
    flags = [*small.FLAGS[:-1], "--trainer.max_epochs=500", f"--trainer.default_root_dir={tmp_path}"]
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", "--config=s1.yaml", *flags, "--trainer.devices=2"]
    fit = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert wait_until(lambda: [*tmp_path.glob("**/last.ckpt")], 120)
    assert len(processes_of(tmp_path)) == 2
    kill(fit.pid)
    fit.wait()
    assert wait_until(lambda: not processes_of(tmp_path), 3)
