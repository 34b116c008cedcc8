"""Teachers for knowledge distillation: opening them, running them, and caching their logits."""
