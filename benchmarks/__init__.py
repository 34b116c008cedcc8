"""Measurements that anyone can repeat: `python -m benchmarks.input_pipeline`."""
