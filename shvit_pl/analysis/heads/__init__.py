"""How alike the heads of an attention layer are, and what each is worth (paper sec. 2.2, Figs. 3 and 4)."""
