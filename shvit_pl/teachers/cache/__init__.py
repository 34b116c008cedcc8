"""A teacher's answers, kept on the disk."""
