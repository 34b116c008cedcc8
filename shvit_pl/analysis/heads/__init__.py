"""Similarity of the heads of attention, and the worth of each head (paper sec. 2.2, Figs. 3 and 4)."""
