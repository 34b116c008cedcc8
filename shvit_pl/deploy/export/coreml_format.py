"""CoreML: an ML program (`.mlpackage`) for Apple's devices, float16 by default, with labels in it.

It is converted anywhere and runs on macOS only; elsewhere the tests evaluate the saved program.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from shvit_pl.deploy.export.torch_export import exported

_PREFIX = "shvit_pl."  # of the names of our metadata


def save(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    half: bool = True,
    pixels: bool = False,
    classes: list[str] | None = None,
) -> None:
    """Write an `.mlpackage` for batches as large as the example, with user-defined metadata.

    Args:
        model: In evaluation mode: images to outputs.
        example: A batch `(B, 3, S, S)`.
        path: The package, a folder.
        metadata: Texts to keep.
        half: Compute in float16.
        pixels: Take an image of CoreML, whose bytes are divided by 255; B must be 1.
        classes: Names of the outputs, which are probabilities: the package is a classifier.
    """
    import coremltools as ct

    shape = tuple(example.shape)
    image = ct.ImageType(name="images", shape=shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
    network = ct.convert(
        exported(model, example, dynamic=False).run_decompositions({}),
        inputs=[image if pixels else ct.TensorType(name="images", shape=shape)],
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
        classifier_config=ct.ClassifierConfig(classes) if classes else None,
    )
    network.user_defined_metadata.update({_PREFIX + key: value for key, value in (metadata or {}).items()})
    network.save(str(path))


class CoreMLNetwork(nn.Module):
    """A package as a module, run by CoreML, on macOS only."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import coremltools as ct

        self.network: Any = ct.models.MLModel(str(path))
        self.pixels = self.network.get_spec().description.input[0].type.HasField("imageType")

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)` (pixels as bytes where it takes those)."""
        image = to_pil_image((images[0] * 255).round().byte()) if self.pixels else images.numpy()
        outputs = self.network.predict({"images": image})
        probabilities = next((value for value in outputs.values() if isinstance(value, dict)), None)
        if probabilities is None:
            return torch.from_numpy(next(iter(outputs.values()))).float()
        names = json.loads(self.network.user_defined_metadata[f"{_PREFIX}labels"])
        return torch.tensor([[probabilities[name] for name in names]])


load = CoreMLNetwork  # as all formats name what runs their files


def describe(path: Path) -> list[str]:
    """Return further lines about a package."""
    spec = _spec(path)
    (function,) = spec.mlProgram.functions.values()
    operations = next(iter(function.block_specializations.values())).operations
    kinds = Counter(operation.type for operation in operations if operation.type != "const")
    most = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(4))
    weights = sum(file.stat().st_size for file in (path / "Data/com.apple.CoreML/weights").iterdir())
    kind = spec.description.input[0].type.WhichOneof("Type")
    outputs = ", ".join(output.name for output in spec.description.output)
    return [
        f"{kinds.total()} operations ({most}, ...), {weights / 1e6:.1f} MB of weights",
        f"input images of {kind}, outputs {outputs}; labels in its user-defined metadata",
    ]


def _spec(path: Path) -> Any:
    import coremltools as ct

    return ct.utils.load_spec(str(path))
