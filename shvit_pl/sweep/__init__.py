"""Sweeps: many runs of `fit`, each exactly once, and a page that says which choice pays."""
