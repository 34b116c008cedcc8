"""Studies of networks: their attention heads, where the time of attention goes, and what each stage costs."""
