"""SHViT with Lightning: train, sweep, distill, benchmark and ship the Single-Head Vision Transformer.

The names below are imported when first used, so `import shvit_pl` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shvit_pl.analysis.attention_layers import head_similarity as head_similarity
    from shvit_pl.data.datamodule import HFImageDataModule as HFImageDataModule
    from shvit_pl.data.objects.datamodule import ObjectsDataModule as ObjectsDataModule
    from shvit_pl.deploy.optimization import optimize as optimize
    from shvit_pl.deploy.predictor import load as load
    from shvit_pl.designs.config import DesignConfig as DesignConfig
    from shvit_pl.designs.design import Design as Design
    from shvit_pl.errors import UserError as UserError
    from shvit_pl.models import SHViT as SHViT
    from shvit_pl.models import create_model as create_model
    from shvit_pl.models import load_weights as load_weights
    from shvit_pl.modules.classification import ClassificationModule as ClassificationModule
    from shvit_pl.modules.detection import DetectionModule as DetectionModule
    from shvit_pl.modules.distillation import DistillationModule as DistillationModule
    from shvit_pl.teachers.config import DistillConfig as DistillConfig

__version__ = _version("shvit-pl")

_HOMES = {
    "ClassificationModule": "shvit_pl.modules.classification",
    "DetectionModule": "shvit_pl.modules.detection",
    "DistillConfig": "shvit_pl.teachers.config",
    "DistillationModule": "shvit_pl.modules.distillation",
    "Design": "shvit_pl.designs.design",
    "DesignConfig": "shvit_pl.designs.config",
    "HFImageDataModule": "shvit_pl.data.datamodule",
    "ObjectsDataModule": "shvit_pl.data.objects.datamodule",
    "SHViT": "shvit_pl.models",
    "UserError": "shvit_pl.errors",
    "create_model": "shvit_pl.models",
    "head_similarity": "shvit_pl.analysis.attention_layers",
    "load": "shvit_pl.deploy.predictor",
    "load_weights": "shvit_pl.models",
    "optimize": "shvit_pl.deploy.optimization",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shvit_pl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
