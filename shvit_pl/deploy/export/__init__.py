"""Networks as files that other programs run: `shvit-pl export`."""
