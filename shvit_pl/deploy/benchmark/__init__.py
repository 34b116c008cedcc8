"""How fast networks are, side by side: `shvit-pl benchmark`."""
