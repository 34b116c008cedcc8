"""A small run to export, images for it, and what is written into exported files."""

import json

import pytest
import torch

from shvit_pl.data.datamodule import HFImageDataModule
from tests.hub.runs import with_design


@pytest.fixture(scope="session")
def dual_run(run, tmp_path_factory):
    """The folder of a run on the digits with two classifiers."""
    folder = tmp_path_factory.mktemp("export") / "run"
    return with_design(run, folder, name="tiny", depth=(1, 1, 1), distilled=True)


def pictures(number, side):
    """Digits that a run holds out, normalized: `(number, 3, side, side)`."""
    data = HFImageDataModule(image_size=side, batch_size=2, num_workers=0)
    data.setup("fit")
    return torch.cat([batch["image"] for batch in data.validation_sample(number)])


def read_metadata(format_, path):
    """The metadata in a file of a format."""
    if format_ == "onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    if format_ == "torch-export":
        extra = {"metadata.json": ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra["metadata.json"])
    if format_ == "coreml":
        import coremltools as ct

        found = ct.utils.load_spec(str(path)).description.metadata.userDefined
        return {key.removeprefix("shvit_pl."): value for key, value in found.items()}
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    return json.loads(program.load_method("metadata").execute([])[0])
