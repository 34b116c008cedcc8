"""Lightning callbacks of a run: progress, checkpoints, summary, throughput and checks."""
