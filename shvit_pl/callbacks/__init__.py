"""What watches a run: callbacks of Lightning, one file each, and what they share."""
