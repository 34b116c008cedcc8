"""LightningModules around SHViT."""
