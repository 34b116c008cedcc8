"""The peak of a process is its own, and it is a peak."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from shvit_pl.callbacks.throughput import peak_memory

CHILD = """
import json, numpy, torch
from shvit_pl.callbacks.throughput import peak_memory
device = torch.device("cpu")
before, _ = peak_memory(device)
numpy.ones(300_000_000, numpy.uint8)  # held for a moment
print(json.dumps([before, *peak_memory(device)]))
"""


@pytest.mark.slow  # the child imports everything
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system may count differently")
def test_it_is_the_processes_own_peak_and_not_its_parents():
    held = np.ones(400_000_000, np.uint8)
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    before, after, of_what = json.loads(child.stdout)
    assert of_what == "resident in the process"
    assert 290 < after - before < 310
    parents, _ = peak_memory(torch.device("cpu"))
    assert len(held) / 1e6 < parents
    assert before < parents - 200
