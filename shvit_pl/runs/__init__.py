"""What a run leaves behind: its folder, who writes into it, and where it logs to."""
