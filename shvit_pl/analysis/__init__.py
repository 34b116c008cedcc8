"""What a network does inside: its heads, where its time goes, and what its stages cost."""
