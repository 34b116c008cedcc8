"""Formats of other runtimes."""
