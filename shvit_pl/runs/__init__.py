"""A run's folder, its loggers, and a finished run read from it."""
