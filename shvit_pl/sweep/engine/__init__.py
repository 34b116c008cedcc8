"""Running the points of a sweep: drivers, the study that they share, and reading its results."""
