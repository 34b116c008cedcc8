"""Descriptions of SHViT architectures: what there is to choose, by which rule, at what cost. Free of torch."""
