"""Speed of trained networks, their fastest equal form, and their export to other programs."""
