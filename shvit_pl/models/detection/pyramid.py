"""The feature pyramid: maps of equal width at given strides, from the stages of any design."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from shvit_pl.models.shvit import SHViT


class Pyramid(nn.Module):
    """Maps at the strides `levels`, from stages at `strides` (paper's detectors: 8 to 128, and 4 to 64).

    Each stage gets a 1x1 convolution, and coarser ones are added to finer ones from the top down. A level that lies
    below the finest stage comes from it by transposed convolutions, one that lies above the coarsest stage by strided
    convolutions of what the stage puts out, and each of the others by a 3x3 convolution. For the strides 16, 32 and 64
    this is the official neck, which has no norm and no activation.

    Args:
        channels: Of each stage.
        strides: Of each stage, each twice the one before.
        levels: Strides of the maps, each twice the one before; stages finer than the first are not used.
        width: Channels of the maps.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], levels: Sequence[int], width: int) -> None:
        super().__init__()
        self.unused = sum(stride < levels[0] for stride in strides)
        channels, strides = channels[self.unused :], strides[self.unused :]
        finer = sum(level < strides[0] for level in levels)
        coarser = sum(level > strides[-1] for level in levels)
        self.inner = len(levels) - coarser
        self.laterals = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in channels)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(finer))
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(self.inner))
        inputs = (channels[-1], *[width] * coarser)[:coarser]
        self.downs = nn.ModuleList(nn.Conv2d(dim, width, 3, 2, 1) for dim in inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Map the outputs of all stages `(B, C, H/s, W/s)` to the levels' maps `(B, width, H/l, W/l)`."""
        stages = stages[self.unused :]
        merged = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        for finer in reversed(range(len(merged) - 1)):
            size = merged[finer].shape[-2:]
            merged[finer] = merged[finer] + interpolate(merged[finer + 1], size=size, mode="nearest")
        for up in self.ups:
            merged.insert(0, up(merged[0]))
        maps = [output(each) for output, each in zip(self.outputs, merged, strict=False)]
        last = stages[-1]
        for down in self.downs:
            maps.append(last := down(last))
        return maps


class Features(nn.Module):
    """A SHViT without its classifier, and the pyramid on its stages: a backbone as torchvision's detectors have it."""

    def __init__(self, net: SHViT, levels: Sequence[int], width: int) -> None:
        super().__init__()
        self.net, self.levels, self.out_channels = net, tuple(levels), width
        self.pyramid = Pyramid(net.design.embed_dim, net.design.strides, levels, width)

    def body(self, images: Tensor) -> list[Tensor]:
        """Map normalized images `(B, 3, H, W)` to the outputs of all stages `(B, C, H/s, W/s)`."""
        stages = [self.net.patch_embed(images)]
        for stage in self.net.stages:
            stages.append(stage(stages[-1]))
        return stages[1:]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalized images `(B, 3, H, W)` to maps `(B, width, H/l, W/l)` by the names of their strides `l`."""
        return {str(level): each for level, each in zip(self.levels, self.pyramid(self.body(images)), strict=True)}
