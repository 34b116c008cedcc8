"""Teachers for knowledge distillation: where they come from, how they are asked, and their answers on the disk."""
