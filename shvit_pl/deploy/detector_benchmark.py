"""Detectors in a benchmark: opened by name, and each measured as a whole and in two parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from shvit_pl.command_line.config_files import find_config, read_config
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.objects.reading import DIVISOR
from shvit_pl.deploy import formats, measuring
from shvit_pl.deploy.benchmark import ONNX, WHOLE, Builder, Cell
from shvit_pl.deploy.export import silenced
from shvit_pl.deploy.options import TORCHVISION, BenchmarkOptions, is_named_detector
from shvit_pl.deploy.passes import fused
from shvit_pl.designs.cost import Cost
from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import DetectorConfig, detector_cost
from shvit_pl.designs.paper_results import detector_row
from shvit_pl.display import joined
from shvit_pl.errors import UserError, error_prefix
from shvit_pl.models.detection import detectors
from shvit_pl.models.detection.graph import Detector
from shvit_pl.models.network_names import Kind, find_network
from shvit_pl.models.weights import NoAverageError
from shvit_pl.modules.config import DetectionConfig
from shvit_pl.runs.folder import AVERAGED, Weights

CLASSES = 80  # COCO's, of detectors without weights
CANDIDATES = 1000
BACKBONE, REST = "backbone", "rest"
PARTS = (  # what the columns of parts are
    "backbone: its stages alone, the latency of the paper's Table 5; rest: pyramid, head and NMS on the backbone's "
    f"outputs. NMS gets {CANDIDATES} pairs of box and class in each image"
)
EXPLAINED = {
    "ms, images_per_second": "of the whole detector, from normalized images to boxes (and masks) after NMS",
    "backbone_ms": "its stages alone, the latency of the paper's Table 5; median of the blocks",
    "rest_ms": "pyramid, head and NMS, on the backbone's outputs for the same images; median of the blocks",
    "NMS": f"each detector's score threshold is set so that {CANDIDATES} pairs of box and class pass it in an image "
    "of noise, as weights without training would find nothing",
    "params, macs": "of ours in closed form, BatchNorm not fused; of torchvision's counted, what is found included",
    "images": "noise, in float32 and channels-last; other dtypes are autocast",
    "paper": "the detector's row in the paper's Table 5",
    "classes": f"of a config and of torchvision's {CLASSES}, of a run its own",
}


@dataclass(frozen=True)
class BenchmarkedDetector:
    """A detector to be measured."""

    name: str
    model: Any
    """On the CPU, in evaluation mode."""
    origin: Kind | Literal["config", "torchvision"]
    image_size: int
    """The side of its images; of others the shorter one."""
    weights: str
    """fresh, trained or averaged."""
    folded: str
    """The parts that fusing has folded."""
    costs: Callable[[int], Mapping[str, Cost]] | None = None
    """In closed form, by part, for a side in pixels; None of torchvision's."""
    paper: str = ""
    """Its row in the paper."""

    def arguments(self, images: Tensor) -> tuple[Any, ...]:
        """Return what the model takes for a batch `(B, 3, S, S)`."""
        return (images,) if self.costs is None else (images, [tuple(images.shape[-2:])] * len(images))


def all_are_detectors(names: Sequence[str]) -> bool:
    """Return whether these are names of detectors; raises `UserError` where only some are."""
    kinds = {name: is_named_detector(name) or detectors.is_detector(name) for name in names}
    if len(set(kinds.values())) > 1:
        found = ", ".join(name for name, is_one in kinds.items() if is_one)
        others = ", ".join(name for name, is_one in kinds.items() if not is_one)
        raise UserError(f"{found} can't be compared with {others}: give detectors alone, or classifiers alone.")
    return all(kinds.values())


def open_detector(name: str, kind: Weights | None) -> BenchmarkedDetector:
    """Open a detector: a run, a checkpoint, a pushed one, a config or torchvision's; raises `UserError`."""
    if name.startswith(TORCHVISION):
        return _of_torchvision(name)
    if is_named_detector(name):
        return _of_config(name)
    try:
        opened = detectors.open_detector(name, AVERAGED[kind])
    except NoAverageError as error:
        raise UserError(f"--weights {kind}: {error}") from error
    weights, side = "averaged" if opened.averaged else "trained", int(opened.data["min_size"])
    design, config, origin = opened.design.resolved, opened.config, find_network(name).kind
    return _ours(name, opened.model, origin, side, weights, design, config, len(opened.class_names))


def _ours(
    name: str, model: Any, origin: Any, side: int, weights: str, design: Design, config: DetectorConfig, classes: int
) -> BenchmarkedDetector:
    pixels, paper = -(-side // DIVISOR) * DIVISOR, detector_row(design, config)
    return BenchmarkedDetector(
        name=name,
        model=model,
        origin=origin,
        image_size=pixels,
        weights=weights,
        folded="BatchNorm and residuals fused by fuse()",
        costs=lambda px: detector_cost(design, config, classes, px),
        paper=paper.line if paper else "",
    )


def _of_config(name: str) -> BenchmarkedDetector:
    settings = read_config(find_config(name, flag="models"), flag="models")
    if settings.get("task") != "detection":
        raise UserError(f"{name!r}: no config of detection; to measure a classifier, give its design, such as s1.")
    with error_prefix(f"{name!r}: "):
        model = DetectionConfig.from_dict(settings.get("model") or {})
        design, config = model.design.resolved, model.detector
        side = int((settings.get("data") or {}).get("min_size", ObjectsConfig.min_size))
    network = detectors.build_detector(design, config, CLASSES).eval()
    return _ours(name, network, "config", side, "fresh", design, config, CLASSES)


def _of_torchvision(name: str) -> BenchmarkedDetector:
    function = name.removeprefix(TORCHVISION)
    background = 0 if function.startswith("retinanet") else 1
    build: Any = getattr(detection, function)
    model = build(weights=None, weights_backbone=None, num_classes=CLASSES + background).eval()
    model.transform = _Prepared()
    return BenchmarkedDetector(name, model, "torchvision", ObjectsConfig.min_size, "fresh", "BatchNorm of the backbone")


class _Prepared(nn.Module):
    """In place of torchvision's resizing and normalization: images come prepared, as ours do."""

    def forward(self, images: Tensor, targets: None) -> tuple[ImageList, None]:
        return ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)), targets

    def postprocess(self, found: Any, sizes: Any, original: Any) -> Any:
        return found


def mistakes(options: BenchmarkOptions, opened: Mapping[str, BenchmarkedDetector]) -> Iterator[str]:
    """Yield a message for each flag that a detector can't have."""
    if options.train:
        yield "--train: for networks that classify images; python -m benchmarks.detectors measures a detector's step."
    if options.protocol == "official":
        yield "--protocol official: for networks that classify images; leave it out."
    if options.optimize or set(options.mode or ()) - {"eager"}:
        asked = joined(*(options.mode or ()), "optimized" if options.optimize else "")
        yield f"--mode {asked}: a detector runs eager, or by --runtime onnx; leave it out."
    for side in options.image_size or ():
        if side % DIVISOR:
            yield f"--image_size {side}: for a detector, allowed are multiples of {DIVISOR}."
    if ONNX in options.runtime:
        for name, each in opened.items():
            if each.costs is None or not isinstance(each.model, detection.RetinaNet):
                yield f"--runtime onnx: {name} has no graph, only our RetinaNet has; leave it out."
        if options.batch_size != (1,):
            yield "--runtime onnx: a graph with NMS takes one image at a time; give --batch_size 1."


class DetectorBuilder(Builder):
    """A builder of detectors' cells, of which backbone and rest are measured too."""

    def _deployed(self, name: str, pixels: int) -> tuple[Any, Mapping[str, Cost]]:
        opened = self.opened[name]
        model = fused(opened.model)
        images = torch.randn(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            if opened.costs is None:
                backbone: Any = model.backbone
                backbone.body = fuse(backbone.body)
            _let_pass(model, lambda: model(*opened.arguments(images)))
            if opened.costs is not None:
                return model, opened.costs(pixels)
            return model, _counted(model, lambda: model(*opened.arguments(images)))

    def calls(self, cell: Cell, images: Tensor) -> dict[str, Callable[[], object]]:
        """Return calls of the whole detector, of its backbone, and of the rest."""
        model, arguments = self.deployed(cell.model, cell.image_size)[0], self.opened[cell.model].arguments
        if cell.runtime == ONNX:
            side = (cell.image_size, cell.image_size)
            with silenced():
                session, batch = formats.onnx_network(Detector(model, side).eval(), images), images.cpu()
            return {WHOLE: lambda: session(batch)}
        dtype = measuring.DTYPES[cell.dtype]
        images = images.contiguous(memory_format=torch.channels_last)

        def under(work: Callable[[], object]) -> Callable[[], object]:
            def call() -> object:
                low = dtype != torch.float32
                with torch.inference_mode(), torch.autocast(images.device.type, dtype, enabled=low):
                    return work()

            return call

        network: Any = deepcopy(model).to(images.device).to(memory_format=torch.channels_last)
        maps = under(lambda: network.backbone.body(images))()
        rest = deepcopy(network)
        rest.backbone.__dict__["body"] = lambda _: maps  # in place of a method, or of a module
        return {
            WHOLE: under(lambda: network(*arguments(images))),
            BACKBONE: under(lambda: network.backbone.body(images)),
            REST: under(lambda: rest(*arguments(images))),
        }


def _let_pass(model: Any, call: Callable[[], object]) -> None:
    """Set the score threshold so that `CANDIDATES` pairs of box and class pass it in this call of one image."""
    seen: list[Any] = []
    heads = getattr(model, "roi_heads", None)
    source = model.head if heads is None else heads.box_predictor
    with source.register_forward_hook(lambda module, inputs, output: seen.append(output)):
        call()
    scores = seen[0]["cls_logits"].sigmoid() if heads is None else seen[0][0].softmax(-1)[:, 1:]
    least = scores.flatten().topk(min(CANDIDATES, scores.numel())).values[-1]
    (model if heads is None else heads).score_thresh = float(least)


def _counted(model: Any, call: Callable[[], object]) -> dict[str, Cost]:
    """Return the cost by part, as torch counts it in this call of one image."""
    counter: Any = FlopCounterMode(display=False)
    with counter:
        call()
    flops = {name.rpartition(".")[2]: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    features = model.backbone
    macs = {"backbone": flops["body"] // 2, "pyramid": flops["fpn"] // 2}
    params = {"backbone": _params(features.body), "pyramid": _params(features.fpn)}
    macs["head"] = counter.get_total_flops() // 2 - sum(macs.values())
    params["head"] = _params(model) - sum(params.values())
    return {part: Cost(params[part], macs[part]) for part in macs}


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
