"""Output shared by all rooms: tables, progress bars and plots."""
