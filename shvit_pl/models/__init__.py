"""The networks. Importing this package registers the entry point `shvit_pl` with timm."""

from shvit_pl.models.shvit import SHViT, build_network, create_model
from shvit_pl.models.weights import LoadReport, load_weights

__all__ = ["LoadReport", "SHViT", "build_network", "create_model", "load_weights"]
