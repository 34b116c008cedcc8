"""Sweeps: many runs of `fit`, each exactly once, and a report that compares them."""
