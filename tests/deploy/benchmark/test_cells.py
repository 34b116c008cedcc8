"""Which rows a benchmark has."""

import pytest

from shvit_pl.deploy.benchmark.cells import plan
from shvit_pl.deploy.benchmark.options import Options

SIZES = {"s1": 224, "s4": 256}
ASKED = Options(("s1", "s4"), modes=("official", "eager"), dtypes=("fp32", "bf16"), runtimes=("torch", "onnx"))


@pytest.mark.parametrize(("device", "batch", "official"), [("cpu", 16, "fp32"), ("cuda", 256, "fp16 autocast")])
def test_each_network_has_its_own_size_the_papers_batch_and_every_way_to_run_it(device, batch, official):
    (group,) = plan(ASKED, SIZES, device)
    ways = [(cell.how, cell.dtype) for cell in group.cells if cell.model == "s1"]
    assert ways == [("official", official), ("eager", "fp32"), ("eager", "bf16"), ("onnx", "fp32")]
    assert {(cell.model, cell.pixels) for cell in group.cells} == {("s1", 224), ("s4", 256)}
    assert {cell.batch for cell in group.cells} == {batch}


def test_there_is_a_group_for_every_batch_and_image_size():
    groups = plan(Options(("s1",), batch_sizes=(1, 32), image_sizes=(224, 512)), SIZES, "cpu")
    assert [(group.batch, group.image_size) for group in groups] == [(1, 224), (1, 512), (32, 224), (32, 512)]
