"""A small teacher."""

import pytest

from tests.teachers.makers import shaken, stored


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A network of timm, and what names it, at a size that is the student's too."""
    model = shaken("test_resnet")
    weights = stored(model, tmp_path_factory.mktemp("teacher") / "resnet.safetensors")
    named = {"teacher": "test_resnet", "weights": weights, "teacher_size": 64, "teacher_precision": "fp32"}
    return model, named | {"check": False}
