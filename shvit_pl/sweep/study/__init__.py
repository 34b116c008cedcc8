"""What a sweep remembers: its study and its folder."""
