"""Output shared by all commands: tables, progress bars and plots."""
